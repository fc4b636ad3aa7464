//! Passwords and keys, shown once to whoever asked for them.

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tracing::error;

use super::Api;
use super::extract::Named;
use super::guard::Caller;
use super::problem::{Problem, kinds};
use super::resources::find;
use crate::control::resource::Spec;
use crate::control::store::{Audit, ResourceState};

/// A secret, this once.
#[derive(Serialize, Deserialize, utoipa::ToSchema)]
pub struct Revealed {
    /// The password or key.
    pub secret: String,
    /// Which of the resource's secrets it is.
    pub generation: u32,
}

impl Drop for Revealed {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.secret);
    }
}

/// `POST /v1/users/{cluster}/{name}/secret`, `POST /v1/senders/{name}/secret`
pub async fn reveal(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(id): Named,
) -> Result<Response, Problem> {
    let resource = find(&api, &id).await?;
    let generation = match &resource.spec {
        Spec::User(user) => user.generation,
        Spec::Sender(sender) => sender.generation,
        _ => return Err(Problem::not_found(format_args!("secret of {id}"))),
    };
    if resource.state == ResourceState::Applying {
        return Err(Problem::new(kinds::CONFLICT, format!("`{id}` is being changed; ask again when it is ready")));
    }
    let name = id.to_string();
    let mut tx = api.store.begin().await?;
    let sealed = tx.take_secret(&name, i64::from(generation), &caller.actor.name).await?;
    let outcome = if sealed.is_some() { "done" } else { "nothing_to_read" };
    // What was read is noted with the reading, or is not read.
    tx.audit(Audit {
        actor: &caller.actor.name,
        source: &caller.source,
        verb: "read-secret",
        object: &name,
        request: "",
        outcome,
        detail: json!({ "generation": generation }),
    })
    .await?;
    tx.commit().await?;
    let Some(sealed) = sealed else {
        let detail = format!("`{name}` has no secret for you: it was read, or somebody else asked for it; rotate it");
        return Err(Problem::new(kinds::NOT_FOUND, detail));
    };
    let opened = api.reach.sealer.open(&sealed, &format!("{name}#{generation}")).map_err(|error| {
        error!(resource = name, %error, "a secret cannot be opened");
        Problem::new(kinds::INTERNAL, "the secret cannot be opened with the key of this node; rotate it")
    })?;
    let revealed = Revealed { secret: (*opened).clone(), generation };
    Ok(axum::Json(&revealed).into_response())
}
