//! Answers as it is told to: well, not at all, or badly. Its handler keeps what its responder tells.
use std::time::Duration;

use tidegate_sdk::prelude::*;

#[derive(Deserialize)]
struct Told {
    /// What to do; see below.
    then: String,
    #[serde(default)]
    n: u32,
}

#[consumer]
fn count(event: Event<Value>) -> Outcome {
    state::increment("n", event.data["n"].as_i64().unwrap_or(1))?;
    done()
}

#[responder]
fn tell(question: Question<Told>) -> Answer {
    let Told { then, n } = &question.data;
    match then.as_str() {
        "count" => answer(state::get::<i64>("n")?.unwrap_or_default()),
        "correlation" => answer(&question.correlation_id),
        "deadline" => answer(u64::try_from(question.deadline.as_millis())?),
        "empty" => Ok(tidegate_sdk::Raw::default()),
        "bytes" => {
            Ok(tidegate_sdk::Raw { content_type: "application/octet-stream".into(), bytes: vec![0xff, 0, 0xfe] })
        }
        "invalid" => Err(Refusal::Invalid("no such sku".into())),
        "not-found" => Err(Refusal::NotFound("none in stock".into())),
        "unavailable" => Err(Refusal::Unavailable("being counted".into())),
        "log" => {
            log::info!("asked {}", question.question_type);
            answer(())
        }
        "panic" => panic!("out of shelves"),
        "spin" => loop {
            std::hint::black_box(());
        },
        "sleep" => {
            std::thread::sleep(Duration::from_secs(3_600));
            answer(())
        }
        "huge" => Ok(tidegate_sdk::Raw { content_type: String::new(), bytes: vec![b'x'; (1 << 20) + 1] }),
        "write" => answer(state::set("n", 1).map_or_else(|error| error.to_string(), |()| "written".into())),
        "publish" => answer(publish("stock.told", ()).map_or_else(|error| error.to_string(), |_| "published".into())),
        // Asks itself, until it is not allowed to.
        "nest" => match queries::ask::<_, u32>(&question.question_type, &json!({ "then": "nest", "n": n + 1 })) {
            Ok(deepest) => answer(deepest),
            Err(queries::Error::ChainTooDeep(_)) => answer(n + 1),
            Err(error) => Err(error)?,
        },
        _ => answer(json!({ "told": then, "n": n })),
    }
}
