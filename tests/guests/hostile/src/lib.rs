//! One guest, many bad manners: the event's payload, `{"mode": "…"}`, says which. README.md lists the modes and what the
//! host makes of each; a test reads that table.
//!
//! A mode that checks something answers *done* if it is as it should be and *reject* with a sentence if it is not.

wit_bindgen::generate!({ world: "consumer", path: "../../../wit", generate_all });

mod effects;
mod memory;
mod raw;
mod system;
mod time;
mod volume;

use exports::tidegate::consumer::handler::{Delivery, Failure, Guest, Payload};
use tidegate::consumer::types::{Deferral, Retry};

type Answer = Result<Option<Payload>, Failure>;

struct Hostile;

impl Guest for Hostile {
    fn handle(delivery: Delivery) -> Answer {
        let data = String::from_utf8(delivery.event.payload.data.clone()).map_err(|e| reject(e.to_string()))?;
        let mode = data.split('"').nth(3).unwrap_or("done").to_owned();
        [time::run, memory::run, volume::run, system::run, effects::run, raw::run, words]
            .into_iter()
            .find_map(|group| group(&mode, &delivery))
            .unwrap_or_else(|| Err(reject(format!("no mode {mode}"))))
    }
}

export!(Hostile);

fn reject(why: impl Into<String>) -> Failure {
    Failure::Reject(why.into())
}

fn done() -> Answer {
    Ok(None)
}

/// *done* if it holds.
fn check(holds: bool, what: &str) -> Answer {
    if holds { done() } else { Err(reject(what)) }
}

fn output(data: Vec<u8>) -> Answer {
    Ok(Some(Payload { content_type: "text/plain".into(), data }))
}

fn retry(reason: &str, after_ms: Option<u64>) -> Answer {
    Err(Failure::Retry(Retry { reason: reason.into(), after_ms }))
}

/// The four words a guest may say, and ways to say them badly.
fn words(mode: &str, delivery: &Delivery) -> Option<Answer> {
    let event = &delivery.event;
    Some(match mode {
        "done" => done(),
        "echo" => output(
            format!(
                "{} {} {} {:?} {} {} {} {}/{} {}",
                event.id,
                event.type_,
                event.source,
                event.subject,
                event.timestamp.seconds,
                event.correlation_id,
                delivery.consumer,
                delivery.attempt,
                delivery.attempts_max,
                event.payload.content_type,
            )
            .into_bytes(),
        ),
        "retry" => retry("later", None),
        "retry-empty" => retry("", None),
        "retry-in-a-million-years" => retry("later", Some(u64::MAX)),
        "defer" => Err(Failure::Defer(Deferral { reason: "not now".into(), after_ms: 5_000 })),
        "defer-at-once" => Err(Failure::Defer(Deferral { reason: "now".into(), after_ms: 0 })),
        "reject" => Err(reject("never")),
        "reject-huge" => Err(reject("é".repeat(500_000))),
        "reject-beyond" => Err(reject("x".repeat(20 << 20))),
        "reject-escapes" => Err(reject("a\u{1b}[2J\r\nERROR forged\0\u{202e}b")),
        _ => return None,
    })
}
