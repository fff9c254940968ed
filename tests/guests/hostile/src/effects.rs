//! Guests with effects: published events, state, settings, secrets, requests.

use crate::tidegate::consumer::publisher::{Draft, PublishError, publish};
use crate::tidegate::consumer::state::{self, StateError};
use crate::tidegate::consumer::types::{Instant, Payload};
use crate::tidegate::consumer::{config, http, secrets};
use crate::{Answer, Delivery, check, done, reject, retry};

fn draft(event_type: &str) -> Draft {
    Draft {
        type_: event_type.into(),
        payload: Payload { content_type: "application/json".into(), data: b"{}".to_vec() },
        subject: None,
        key: None,
        data_version: None,
        not_before: None,
        attributes: Vec::new(),
    }
}

fn of_size(bytes: usize) -> Draft {
    Draft { payload: Payload { content_type: "text/plain".into(), data: vec![b'x'; bytes] }, ..draft("order.noted") }
}

fn invalid(draft: Draft) -> Answer {
    check(matches!(publish(&draft), Err(PublishError::Invalid(_))), "it was accepted")
}

pub fn run(mode: &str, delivery: &Delivery) -> Option<Answer> {
    publishing(mode, delivery).or_else(|| stating(mode)).or_else(|| asking(mode))
}

fn publishing(mode: &str, delivery: &Delivery) -> Option<Answer> {
    let noted = || draft("order.noted");
    Some(match mode {
        "publish" => match publish(&Draft { subject: Some("s".into()), key: Some("k".into()), ..noted() }) {
            Ok(id) => check(id.len() == 36, "the id is no UUID"),
            Err(error) => Err(reject(error.to_string())),
        },
        "publish-own-type" => match publish(&draft(&delivery.event.type_)) {
            Ok(_) => done(),
            Err(error) => retry(&error.to_string(), None),
        },
        "publish-ungranted" => match publish(&draft("payment.taken")) {
            Ok(_) => Err(reject("it was accepted")),
            Err(error) => retry(&error.to_string(), None),
        },
        "publish-as-the-host" => match publish(&draft("tidegate.reloaded")) {
            Ok(_) => Err(reject("it was accepted")),
            Err(error) => retry(&error.to_string(), None),
        },
        "publish-ungranted-and-go-on" => check(publish(&draft("payment.taken")).is_err(), "it was accepted"),
        "publish-too-many" => {
            let published = (0..300).take_while(|_| publish(&noted()).is_ok()).count();
            check(published == 256, "another number was accepted")
        }
        "publish-largest" => check(publish(&of_size(1 << 20)).is_ok(), "it was refused"),
        "publish-too-large" => {
            check(matches!(publish(&of_size((1 << 20) + 1)), Err(PublishError::TooLarge(_))), "it was accepted")
        }
        "publish-too-much" => {
            let published = (0..20).take_while(|_| publish(&of_size(1 << 20)).is_ok()).count();
            check(published == 2, "another number was accepted")
        }
        "publish-bad-type" => invalid(draft("order created\r\n")),
        "publish-empty-type" => invalid(draft("")),
        "publish-bad-version" => invalid(Draft { data_version: Some("one".into()), ..noted() }),
        "publish-bad-content-type" => {
            invalid(Draft { payload: Payload { content_type: "a\r\nb".into(), data: vec![] }, ..noted() })
        }
        "publish-bad-time" => {
            invalid(Draft { not_before: Some(Instant { seconds: i64::MAX, nanoseconds: u32::MAX }), ..noted() })
        }
        "publish-long-key" => invalid(Draft { key: Some("k".repeat(2_000)), ..noted() }),
        "publish-reserved-attribute" => invalid(Draft { attributes: vec![("id".into(), "x".into())], ..noted() }),
        "publish-many-attributes" => {
            let attributes = (0..100).map(|n| (format!("a{n}"), String::new())).collect();
            invalid(Draft { attributes, ..noted() })
        }
        "publish-against-the-schema" => invalid(draft("order.checked")),
        "publish-then-trap" => {
            publish(&noted()).ok();
            state::set("k", b"v", None).ok();
            std::process::abort()
        }
        "publish-then-retry" => {
            publish(&noted()).ok();
            retry("changed my mind", None)
        }
        "publish-then-spin" => {
            publish(&noted()).ok();
            loop {
                std::hint::black_box(());
            }
        }
        _ => return None,
    })
}

fn stating(mode: &str) -> Option<Answer> {
    Some(match mode {
        "state" => match all_of_state() {
            Ok(true) => done(),
            Ok(false) => Err(reject("state does not do what it should")),
            Err(error) => Err(reject(error.to_string())),
        },
        "state-too-many" => {
            (0..2_000).for_each(|n| _ = state::set(&n.to_string(), b"v", None));
            done()
        }
        "state-too-large" => {
            let set = state::set("k", &vec![0; (256 << 10) + 1], None);
            check(matches!(set, Err(StateError::TooLarge(_))), "it was accepted")
        }
        "state-over-quota" => {
            let full = (0..100).find_map(|n| state::set(&n.to_string(), &vec![0; 256 << 10], None).err());
            check(matches!(full, Some(StateError::QuotaExceeded(_))), "there is no quota")
        }
        "state-bad-keys" => {
            let long = "k".repeat(513);
            let refused = |key: &str| matches!(state::set(key, b"v", None), Err(StateError::Invalid(_)));
            check(refused("") && refused(&long) && state::get(&long).is_err(), "it was accepted")
        }
        "state-no-counter" => {
            state::set("k", b"text", None).ok();
            check(matches!(state::increment("k", 1), Err(StateError::Invalid(_))), "it counted")
        }
        "state-counter-overflow" => {
            state::increment("k", i64::MAX).ok();
            check(matches!(state::increment("k", 1), Err(StateError::Invalid(_))), "it wrapped")
        }
        "state-panics" => {
            state::get("panic").ok();
            done()
        }
        _ => return None,
    })
}

fn all_of_state() -> Result<bool, StateError> {
    let mut good = state::get("a")?.is_none();
    state::set("a", b"1", None)?;
    state::set("b", b"2", Some(1_000))?;
    good &= state::get("a")?.as_deref() == Some(b"1");
    good &= !state::compare_and_set("a", None, b"x")?;
    good &= state::compare_and_set("a", Some(b"1"), b"3")?;
    good &= state::compare_and_set("c", None, b"4")?;
    state::delete("b")?;
    good &= state::get("b")?.is_none();
    good &= state::increment("n", 5)? == 5 && state::increment("n", -7)? == -2;
    good &= state::get("n")?.as_deref() == Some(b"-2");
    let first = state::keys("", None, 2)?;
    let rest = state::keys("", first.next.as_deref(), 100)?;
    Ok(good && first.keys == ["a", "c"] && rest.keys == ["n"] && rest.next.is_none())
}

fn asking(mode: &str) -> Option<Answer> {
    Some(match mode {
        "config" => check(config::get("sender").as_deref() == Some("shop") && config::all().len() == 1, "no config"),
        "secret-unseen" => match secrets::reveal("hidden") {
            Ok(_) => Err(reject("it can be seen")),
            Err(error) => retry(&error.to_string(), None),
        },
        "secret-unknown" => match secrets::reveal("unknown") {
            Ok(_) => Err(reject("it can be seen")),
            Err(error) => retry(&error.to_string(), None),
        },
        "secret-shown" => check(secrets::reveal("shown").is_ok_and(|seen| seen == "seen"), "it cannot be seen"),
        "secret-hmac" => {
            let mac = secrets::hmac_sha256("hidden", b"message").unwrap_or_default();
            check(mac.len() == 32, "no code")
        }
        "http-ungranted" => {
            let request = http::Request {
                method: "GET".into(),
                url: "http://169.254.169.254/latest/meta-data".into(),
                headers: Vec::new(),
                body: None,
                timeout_ms: None,
            };
            check(matches!(http::send(&request), Err(http::HttpError::NotGranted(_))), "it was sent")
        }
        _ => return None,
    })
}
