//! The audit log: every attempt, the refused ones too, in a chain of hashes.
//!
//! Each line's hash is of its text and of the hash before it: whoever changes or drops a line in the middle has to write all later
//! ones anew, and whoever keeps a copy of the last hash sees it.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::{Store, StoreError, Tx, document, text};

/// What is to be noted.
#[derive(Clone, Debug)]
pub struct Audit<'a> {
    /// Who: the name in the token, or `control` for what the plane does by itself.
    pub actor: &'a str,
    /// From where: an address.
    pub source: &'a str,
    /// What: `create`, `approve`, `read-secret`, ….
    pub verb: &'a str,
    /// With what: the name of a resource, request or policy.
    pub object: &'a str,
    /// In which request; empty for none.
    pub request: &'a str,
    /// How it ended: `done`, or the code of a refusal.
    pub outcome: &'a str,
    /// More of it. Never a secret: providers have taken them out.
    pub detail: Value,
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AuditLine {
    /// Its number, from 1, without gaps.
    pub seq: i64,
    /// When, milliseconds since 1970.
    pub at_ms: i64,
    /// Who.
    pub actor: String,
    /// From where.
    pub source: String,
    /// What.
    pub verb: String,
    /// With what.
    pub object: String,
    /// In which request.
    pub request: String,
    /// How it ended.
    pub outcome: String,
    /// More of it.
    #[schema(value_type = Object)]
    pub detail: Value,
    /// The hash of the line before; of the first line: empty.
    pub previous: String,
    /// SHA-256 over all of the above, in hex.
    pub hash: String,
}

/// Where the chain does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit log was changed: line {seq} {problem}")]
pub struct BrokenChain {
    /// The first line that is not as it was written.
    pub seq: i64,
    /// How.
    pub problem: &'static str,
}

impl AuditLine {
    fn digest(&self) -> String {
        let fields = (
            self.seq,
            self.at_ms,
            (&self.actor, &self.source, &self.verb, &self.object, &self.request, &self.outcome),
            &self.detail,
            &self.previous,
        );
        // JSON of a tuple is unambiguous: no field can run over into the next one.
        let bytes = Sha256::digest(text(&fields).as_bytes());
        hex::encode(bytes)
    }

    /// Checks that each of these lines follows the one before it. The first one is taken as it is unless it is line 1.
    pub fn verify<'l>(lines: impl IntoIterator<Item = &'l AuditLine>) -> Result<(), BrokenChain> {
        let mut before: Option<&AuditLine> = None;
        for line in lines {
            let broken = |problem| Err(BrokenChain { seq: line.seq, problem });
            if line.digest() != line.hash {
                return broken("does not have the hash of its text");
            }
            match before {
                Some(before) if line.seq != before.seq + 1 => return broken("does not follow the one before it"),
                Some(before) if line.previous != before.hash => {
                    return broken("does not name the hash of the one before it");
                }
                None if line.seq == 1 && !line.previous.is_empty() => {
                    return broken("is the first one and names another before it");
                }
                _ => {}
            }
            before = Some(line);
        }
        Ok(())
    }
}

impl Tx {
    /// Adds a line. It lasts if the transaction does.
    pub async fn audit(&mut self, audit: Audit<'_>) -> Result<(), StoreError> {
        let last = sqlx::query("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")
            .fetch_optional(&mut *self.inner)
            .await?;
        let (seq, previous) = match last {
            None => (1, String::new()),
            Some(row) => (row.try_get::<i64, _>("seq")? + 1, row.try_get("hash")?),
        };
        let Audit { actor, source, verb, object, request, outcome, detail } = audit;
        let [actor, source, verb, object, request, outcome] =
            [actor, source, verb, object, request, outcome].map(str::to_owned);
        let mut line = AuditLine {
            seq,
            at_ms: self.now_ms,
            actor,
            source,
            verb,
            object,
            request,
            outcome,
            detail,
            previous,
            hash: String::new(),
        };
        line.hash = line.digest();
        let insert =
            "INSERT INTO audit (seq, at_ms, actor, source, verb, object, request, outcome, detail, previous, hash)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
        sqlx::query(insert)
            .bind(line.seq)
            .bind(line.at_ms)
            .bind(line.actor)
            .bind(line.source)
            .bind(line.verb)
            .bind(line.object)
            .bind(line.request)
            .bind(line.outcome)
            .bind(text(&line.detail))
            .bind(line.previous)
            .bind(line.hash)
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }
}

impl Store {
    /// Lines after this number, at most so many.
    pub async fn audit_lines(&self, after: i64, limit: u32) -> Result<Vec<AuditLine>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2").bind(after).bind(i64::from(limit));
        rows.fetch_all(&self.pool).await?.iter().map(read).collect()
    }

    /// Reads the whole log and checks its chain; says how many lines it has.
    pub async fn verify_audit(&self) -> Result<Result<i64, BrokenChain>, StoreError> {
        let mut last: Option<AuditLine> = None;
        loop {
            let lines = self.audit_lines(last.as_ref().map_or(0, |line| line.seq), 1_000).await?;
            if last.is_none() && lines.first().is_some_and(|line| line.seq != 1) {
                return Ok(Err(BrokenChain { seq: 1, problem: "is missing" }));
            }
            if let Err(broken) = AuditLine::verify(last.iter().chain(&lines)) {
                return Ok(Err(broken));
            }
            match lines.into_iter().last() {
                Some(line) => last = Some(line),
                None => return Ok(Ok(last.map_or(0, |line| line.seq))),
            }
        }
    }
}

fn read(row: &AnyRow) -> Result<AuditLine, StoreError> {
    let seq = row.try_get("seq")?;
    Ok(AuditLine {
        seq,
        at_ms: row.try_get("at_ms")?,
        actor: row.try_get("actor")?,
        source: row.try_get("source")?,
        verb: row.try_get("verb")?,
        object: row.try_get("object")?,
        request: row.try_get("request")?,
        outcome: row.try_get("outcome")?,
        detail: document(row, "detail", || format!("audit line {seq}"))?,
        previous: row.try_get("previous")?,
        hash: row.try_get("hash")?,
    })
}
