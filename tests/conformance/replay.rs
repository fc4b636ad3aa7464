//! The recorded suite, asked again: it needs no runner.

use prost::Message;

use crate::protocol::{Answer, Request, Response};
use crate::recorded::{Exchange, Suite};
use crate::testee::Testee;

/// Differences that are shown one by one.
const SHOWN_MAX: usize = 20;

/// Asks every recorded test again and compares the answers: byte by byte, but of errors only that they are one.
pub fn replay() -> Result<(), String> {
    let suite = Suite::load()?;
    if suite.exchanges.is_empty() {
        return Err("the recorded suite is empty".to_owned());
    }
    let mut testee = Testee::new(suite.pool()?);
    let mut differences = Vec::new();
    for Exchange { request, response } in &suite.exchanges {
        let request = Request::decode(&request[..]).map_err(|e| format!("a recorded request: {e}"))?;
        let expected = Response::decode(&response[..]).map_err(|e| format!("a recorded response: {e}"))?;
        let expected = expected.answer.ok_or("a recorded response has no answer")?;
        let answer = testee.answer(&request);
        let same = match (&answer, &expected) {
            (Answer::ParseError(_), Answer::ParseError(_)) => true,
            (Answer::SerializeError(_), Answer::SerializeError(_)) => true,
            _ => answer == expected,
        };
        if !same {
            differences.push(format!("{request:?}\n  was answered  {expected:?}\n  is now        {answer:?}"));
        }
    }
    let (all, different) = (suite.exchanges.len(), differences.len());
    if different > 0 {
        differences.truncate(SHOWN_MAX);
        let shown = differences.join("\n");
        return Err(format!(
            "{shown}\n{different} of {all} recorded tests are answered differently; `-- --record` if better"
        ));
    }
    println!("{all} recorded tests are answered as before");
    Ok(())
}
