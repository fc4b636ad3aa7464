//! Steps whose place is the proxies: what they get of a resource is written into the store, and goes out with the next snapshot.
//!
//! In: what is to be published of a resource. Out: a step for it, and that step done. Never: anything else of the resource.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Comparison, Observed, Reach, Step, StepError};
use crate::control::resource::ResourceId;

/// Under which name what is published stands in what was observed.
const PUBLISHED: &str = "published";

/// What a step wishes to be published; null: nothing.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    publish: Option<Value>,
}

/// The step that publishes this, or nothing; none where it is so.
pub(super) fn step(id: &ResourceId, publish: Option<Value>, observed: &Observed, summary: String) -> Option<Step> {
    if published(observed) == publish.as_ref() {
        return None;
    }
    let wish = serde_json::to_value(Wish { publish }).expect("a wish has string keys");
    Some(Step { target: id.clone(), wish, summary, is_destructive: false })
}

/// How a step of this kind compares with what was observed; none when it is of another kind.
pub(super) fn compare(step: &Step, observed: &Observed) -> Option<Comparison> {
    let Wish { publish } = read(step)?;
    let is_same = published(observed) == publish.as_ref();
    Some(if is_same { Comparison::Same } else { Comparison::Different })
}

/// Does a step of this kind; false when it is of another kind.
pub(super) async fn act(step: &Step, reach: &Reach) -> Result<bool, StepError> {
    let Some(Wish { publish }) = read(step) else { return Ok(false) };
    let mut tx = reach.store.begin().await?;
    match publish {
        Some(document) => tx.publish(&step.target, &document).await?,
        None => tx.withdraw(&step.target).await?,
    }
    tx.commit().await?;
    Ok(true)
}

/// What is published of a resource, and what else was observed of it.
pub(super) async fn observe(
    id: &ResourceId,
    reach: &Reach,
    mut others: serde_json::Map<String, Value>,
) -> Result<Observed, StepError> {
    let live = reach.store.published_of(id).await?.and_then(|published| published.live);
    others.extend(live.map(|live| (PUBLISHED.to_owned(), live)));
    Ok(if others.is_empty() { Observed::Absent } else { Observed::Present(Value::Object(others)) })
}

fn published(observed: &Observed) -> Option<&Value> {
    match observed {
        Observed::Absent => None,
        Observed::Present(value) => value.get(PUBLISHED),
    }
}

fn read(step: &Step) -> Option<Wish> {
    serde_json::from_value(step.wish.clone()).ok()
}
