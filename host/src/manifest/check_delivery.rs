//! Keys of a consumer that cannot stand together, and those that need another.

use super::authored::Manifest;
use super::codes;
use super::diagnostic::Diagnostic;
use super::elements::consumer::Consumer;
use super::elements::duration::Millis;
use super::reader::{At, Quantity as _, Reader};
use super::yaml::Span;
use crate::model::Limits;
use crate::model::spec::Mode;

pub(super) fn check(reader: &mut Reader, manifest: &Manifest, consumer: &Consumer) {
    check_companions(reader, consumer);
    if consumer.delivery.as_ref().is_some_and(|mode| mode.value == Mode::Ephemeral) {
        check_ephemeral(reader, consumer);
    } else {
        check_exclusive(reader, consumer);
    }
    check_times(reader, manifest, consumer);
    check_share(reader, manifest, consumer);
}

/// Keys that do nothing without another.
fn check_companions(reader: &mut Reader, consumer: &Consumer) {
    let mut alone = |key: &str, own: Option<Span>, other: &str, there: bool, help: &str| {
        if let (Some(span), false) = (own, there) {
            let message = format!("`{key}` does nothing without `{other}`");
            reader.error(codes::WITHOUT, span, message, format!("there is no `{other}`"), help);
        }
    };
    let help = "say which deliveries are in one order: `order-by: data.customerId`";
    alone("on-dead", span(&consumer.on_dead), "order-by", consumer.order_by.is_some(), help);
    let help = "say what makes two deliveries the same: `idempotency-key: data.orderId`";
    let there = consumer.idempotency_key.is_some();
    alone("idempotency-window", span(&consumer.idempotency_window), "idempotency-key", there, help);
}

fn span<T>(at: &Option<At<T>>) -> Option<Span> {
    at.as_ref().map(|at| at.span.clone())
}

fn check_exclusive(reader: &mut Reader, consumer: &Consumer) {
    let order = ("order-by", span(&consumer.order_by));
    let share = ("concurrency-per-key", span(&consumer.concurrency_per_key));
    let batch = ("batch", span(&consumer.batch));
    for (one, other, why, help) in [
        (&order, &share, "an order already means one at a time", "leave `concurrency-per-key` out"),
        (
            &order,
            &batch,
            "deliveries of one key run one after another, and those of a batch together",
            "leave one of the two out; a batch keeps no order",
        ),
        (&share, &batch, "a batch is one attempt of many keys", "leave one of the two out"),
    ] {
        let ((one, Some(first)), (other, Some(second))) = (one, other) else { continue };
        let problem = Diagnostic::error(codes::EXCLUSIVE, format!("`{one}` and `{other}` exclude each other: {why}"))
            .at(&reader.source, second.clone(), "this …")
            .at(&reader.source, first.clone(), "… and this")
            .help(help);
        reader.push(problem);
    }
}

/// At most once, and nothing about it is kept: what needs a memory or a second attempt has no meaning.
fn check_ephemeral(reader: &mut Reader, consumer: &Consumer) {
    let grants = consumer.grants.as_ref();
    let state = grants.filter(|grants| grants.value.state.is_some()).map(|grants| grants.span.clone());
    let publish = grants.filter(|grants| !grants.value.publish.is_empty()).map(|grants| grants.span.clone());
    let jobs = grants.filter(|grants| !grants.value.jobs.is_empty()).map(|grants| grants.span.clone());
    for (key, place, why) in [
        ("from", span(&consumer.from), "it is given only what is accepted while it runs"),
        ("expires-after", span(&consumer.expires_after), "nothing waits"),
        ("order-by", span(&consumer.order_by), "nothing waits for its turn"),
        ("idempotency-key", span(&consumer.idempotency_key), "nothing is remembered"),
        ("concurrency-per-key", span(&consumer.concurrency_per_key), "nothing waits for its turn"),
        ("batch", span(&consumer.batch), "nothing waits for others"),
        ("retry", span(&consumer.retry), "nothing is tried again"),
        ("breaker", span(&consumer.breaker), "nothing is held back"),
        ("grants.state", state, "what it writes could not be kept"),
        ("grants.publish", publish, "what it publishes could not be kept"),
        ("grants.jobs", jobs, "its jobs could not be kept"),
    ] {
        let Some(place) = place else { continue };
        let message = format!("`{key}` has no meaning for an ephemeral consumer: {why}");
        let mode = span(&consumer.delivery).unwrap_or_default();
        let problem = Diagnostic::error(codes::EXCLUSIVE, message)
            .at(&reader.source, place, "this …")
            .at(&reader.source, mode, "… and at most once")
            .help("leave it out, or leave `delivery: ephemeral` out");
        reader.push(problem);
    }
}

fn check_times(reader: &mut Reader, manifest: &Manifest, consumer: &Consumer) {
    let default = manifest.defaults.as_ref().and_then(|defaults| defaults.timeout.as_ref());
    let usual = u64::try_from(Limits::default().timeout.as_millis()).unwrap_or(u64::MAX);
    let timeout = consumer.timeout.as_ref().or(default).map_or(Millis(usual), |at| at.value);
    for (key, own, help) in [
        ("timeout-max", &consumer.timeout_max, "make it longer, or leave it out: then `timeout` cannot be extended"),
        ("expires-after", &consumer.expires_after, "make it longer than one attempt may take"),
    ] {
        let Some(own) = own.as_ref().filter(|own| own.value < timeout) else { continue };
        let message = format!("`{key}` ({}) is shorter than `timeout` ({})", own.value.show(), timeout.show());
        reader.error(codes::CONTRADICTION, own.span.clone(), message, "", help);
    }
}

fn check_share(reader: &mut Reader, manifest: &Manifest, consumer: &Consumer) {
    let limit = consumer.concurrency_per_key.as_ref().and_then(|share| share.value.limit.as_ref());
    let default = manifest.defaults.as_ref().and_then(|defaults| defaults.concurrency.as_ref());
    let usual = u64::from(Limits::default().concurrency);
    let all = consumer.concurrency.as_ref().or(default).map_or(usual, |at| at.value.0);
    if let Some(limit) = limit.filter(|limit| limit.value.0 > all) {
        let warning =
            Diagnostic::warning(codes::CONTRADICTION, format!("the consumer makes at most {all} attempts at once"))
                .at(&reader.source, limit.span.clone(), "never reached")
                .help("raise `concurrency`, or lower this");
        reader.push(warning);
    }
}
