//! Tokens of an issuer that the test runs, signed by `ring`.

use std::sync::Mutex as StdMutex;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;

/// Serves discovery and keys, and counts how often it is asked for them.
struct Server {
    url: String,
    keys: Arc<StdMutex<Option<Value>>>,
    asked: Arc<StdMutex<u32>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(keys: Value) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (keys, asked) = (Arc::new(StdMutex::new(Some(keys))), Arc::new(StdMutex::new(0)));
        let (held, count, issuer) = (Arc::clone(&keys), Arc::clone(&asked), url.clone());
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 8192];
                let length = stream.read(&mut request).await.unwrap_or(0);
                let head = String::from_utf8_lossy(&request[..length]).into_owned();
                let body = if head.starts_with("GET /.well-known/openid-configuration ") {
                    Some(json!({ "issuer": issuer, "jwks_uri": format!("{issuer}/keys") }))
                } else {
                    *count.lock().unwrap() += 1;
                    held.lock().unwrap().clone()
                };
                let (status, body) = body.map_or((500, String::new()), |body| (200, body.to_string()));
                let length = body.len();
                let reply =
                    format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
                let _ = stream.write_all(reply.as_bytes()).await;
            }
        });
        Server { url, keys, asked, task }
    }

    fn issuer(&self) -> Issuer {
        Issuer::new(config::Oidc {
            issuer: self.url.clone(),
            jwks_url: None,
            audience: "iguazu".to_owned(),
            name_claim: "email".to_owned(),
            groups_claim: "realm.groups".to_owned(),
            ca_file: None,
        })
        .unwrap()
    }

    fn claims(&self) -> Value {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        json!({ "iss": self.url, "aud": "iguazu", "exp": now + 600, "email": "ann@example.com",
            "realm": { "groups": ["team-orders", "platform"] } })
    }
}

enum Signer {
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn ec() -> Signer {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    Signer::Ec(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap())
}

fn ed() -> Signer {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    Signer::Ed(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap())
}

impl Signer {
    fn jwk(&self, id: &str) -> Value {
        match self {
            Signer::Ec(pair) => {
                let point = pair.public_key().as_ref();
                json!({ "kty": "EC", "crv": "P-256", "kid": id, "use": "sig", "x": b64(&point[1..33]), "y": b64(&point[33..]) })
            }
            Signer::Ed(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "alg": "EdDSA", "x": b64(pair.public_key()) })
            }
        }
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let signature = match self {
            Signer::Ec(pair) => pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap().as_ref().to_vec(),
            Signer::Ed(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
        };
        format!("{message}.{}", b64(signature))
    }
}

#[tokio::test]
async fn a_token_of_the_issuer_says_who_it_is_of() {
    let (one, other) = (ec(), ed());
    let server = Server::start(json!({ "keys": [one.jwk("one"), other.jwk("other")] })).await;
    let issuer = server.issuer();
    let expected = Identity {
        name: "ann@example.com".into(),
        groups: BTreeSet::from(["platform".to_owned(), "team-orders".to_owned()]),
    };
    for (signer, id, algorithm) in [(&one, "one", "ES256"), (&other, "other", "EdDSA")] {
        let token = signer.token(&json!({ "alg": algorithm, "kid": id }), &server.claims());
        assert_eq!(issuer.identify(&token).await.unwrap(), expected);
    }
    assert_eq!(*server.asked.lock().unwrap(), 1, "keys are kept");
    *server.keys.lock().unwrap() = None;
    let token = one.token(&json!({ "alg": "ES256", "kid": "one" }), &server.claims());
    assert_eq!(issuer.identify(&token).await.unwrap(), expected, "and used while the issuer is down");
}

#[tokio::test]
async fn what_the_issuer_did_not_sign_for_us_is_refused() {
    let (signer, stranger) = (ec(), ec());
    let secret = json!({ "kty": "oct", "kid": "secret", "k": b64("a shared secret of thirty-two bytes") });
    let server = Server::start(json!({ "keys": [signer.jwk("one"), ed().jwk("other"), secret] })).await;
    let issuer = server.issuer();
    let header = json!({ "alg": "ES256", "kid": "one" });
    let check = async |what: &str, token: String| match issuer.identify(&token).await {
        Err(OidcError::Refused(_)) => {}
        other => panic!("{what}: {other:?}"),
    };
    let changed = |key: &str, value: Value| {
        let mut claims = server.claims();
        claims[key] = value;
        claims
    };
    check("signed by somebody else", stranger.token(&header, &server.claims())).await;
    check("expired", signer.token(&header, &changed("exp", json!(1_000_000_000)))).await;
    check("not valid yet", signer.token(&header, &changed("nbf", json!(9_000_000_000_u64)))).await;
    check("for somebody else", signer.token(&header, &changed("aud", json!("another")))).await;
    check("of another issuer", signer.token(&header, &changed("iss", json!("https://id.example")))).await;
    check("of nobody", signer.token(&header, &changed("email", json!(7)))).await;
    check("with groups that are none", signer.token(&header, &changed("realm", json!({ "groups": [1] })))).await;
    for claim in ["exp", "aud", "iss"] {
        let mut claims = server.claims();
        claims.as_object_mut().unwrap().remove(claim);
        check(&format!("without {claim}"), signer.token(&header, &claims)).await;
    }
    let whole = signer.token(&header, &server.claims());
    let (head, rest) = whole.split_once('.').unwrap();
    let (_, signature) = rest.split_once('.').unwrap();
    let swapped = b64(changed("email", json!("root@example.com")).to_string());
    check("changed afterwards", format!("{head}.{swapped}.{signature}")).await;
    check("without a signature", format!("{head}.{rest}").rsplit_once('.').unwrap().0.to_owned() + ".").await;
    for header in [
        json!({ "alg": "none", "kid": "one" }),
        json!({ "alg": "HS256", "kid": "one" }),
        json!({ "alg": "HS256", "kid": "secret" }),
        json!({ "alg": "ES384", "kid": "one" }),
        json!({ "alg": "ES256", "kid": "other" }),
        json!({ "alg": "ES256", "kid": "nobody" }),
        json!({ "alg": "ES256" }),
    ] {
        check(&header.to_string(), signer.token(&header, &server.claims())).await;
    }
    for garbage in ["", "a", "a.b", "a.b.c", &"x".repeat(40_000)] {
        check("garbage", garbage.to_owned()).await;
    }
    assert!(*server.asked.lock().unwrap() <= 2, "an invented key does not make us ask each time");
    assert!(issuer.identify(&whole).await.is_ok());
}

#[tokio::test]
async fn an_issuer_that_never_answered_is_said_to_be_down() {
    let signer = ec();
    let server = Server::start(json!({})).await;
    *server.keys.lock().unwrap() = None;
    let token = signer.token(&json!({ "alg": "ES256", "kid": "one" }), &server.claims());
    assert!(matches!(server.issuer().identify(&token).await, Err(OidcError::Unavailable(_))));
}
