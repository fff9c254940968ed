//! How what a manifest lacks would be written, with names of the deployment where it has any, so that it can be copied.

use crate::model::spec::Mode;
use crate::model::{ConsumerSpec, Deployment, TypePattern, route};

/// The entry of `grants` that a consumer's component needs.
pub(super) fn grant(name: &str, consumer: &ConsumerSpec, deployment: &Deployment) -> String {
    match name {
        "publish" => format!("publish: [{}]", published(consumer, deployment)),
        "jobs" => format!("jobs: [{}]", target(consumer, deployment)),
        "queries" => format!("queries: [{}]", question(consumer, deployment)),
        "http" => "http: [https://api.example.com]".to_owned(),
        "state" => "state: true".to_owned(),
        // Without a value in it, it is enough for the import.
        other => format!("{other}: {{}}"),
    }
}

/// Whether what [`grant`] gives is only an example of how it is written.
pub(super) fn is_example(name: &str) -> bool {
    !matches!(name, "state" | "config" | "secrets")
}

/// A type that is declared, or that others get, and this one does not: a consumer that causes itself is seldom meant.
fn published<'d>(consumer: &ConsumerSpec, deployment: &'d Deployment) -> &'d str {
    let own = |event_type: &str| consumer.subscriptions.iter().any(|on| on.pattern.matches(event_type));
    let declared = deployment.events.keys().map(String::as_str);
    let subscribed = deployment.consumers.values().flat_map(|one| &one.subscriptions).map(|on| &on.pattern);
    let exact = subscribed.filter(|pattern| pattern.is_exact()).map(TypePattern::as_str);
    let mut known = declared.chain(exact).filter(|event_type| !own(event_type) && !route::is_host_type(event_type));
    known.next().unwrap_or("order.confirmed")
}

/// Another one that a job can wait for; a job for oneself is a job as well.
fn target<'d>(consumer: &'d ConsumerSpec, deployment: &'d Deployment) -> &'d str {
    let other = |one: &&ConsumerSpec| one.name != consumer.name && one.delivery.mode == Mode::Durable;
    deployment.consumers.values().find(other).unwrap_or(consumer).name.as_str()
}

fn question<'d>(consumer: &ConsumerSpec, deployment: &'d Deployment) -> &'d str {
    let others = deployment.consumers.values().filter(|one| one.name != consumer.name);
    others.flat_map(|one| &one.answers).next().map_or("stock.check", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{self, Source};
    use crate::model::ConsumerName;

    fn grants_of(manifest: &str) -> Vec<String> {
        let source = Source { path: "tidegate.yaml".into(), text: format!("tidegate: 1\n{manifest}") };
        let deployment = manifest::compile(&source, &|_| None, &[]).unwrap().deployment;
        let giver = &deployment.consumers[&ConsumerName::new("giver").unwrap()];
        ["publish", "jobs", "queries", "http", "state", "config", "secrets"]
            .iter()
            .map(|name| grant(name, giver, &deployment))
            .collect()
    }

    #[test]
    fn names_are_those_of_the_deployment_where_it_has_any() {
        let alone = "consumers: { giver: { component: a.wasm, on: work.wanted } }";
        assert_eq!(
            grants_of(alone),
            [
                "publish: [order.confirmed]",
                "jobs: [giver]",
                "queries: [stock.check]",
                "http: [https://api.example.com]",
                "state: true",
                "config: {}",
                "secrets: {}"
            ]
        );
        let others = "consumers:\n  giver: { component: a.wasm, on: work.* }\n  feed: { component: a.wasm, on: a.b, delivery: ephemeral }\n  \
            mailer: { component: a.wasm, on: [work.done, mail.wanted], answers: mail.count }\n";
        assert_eq!(grants_of(others)[..3], ["publish: [a.b]", "jobs: [mailer]", "queries: [mail.count]"]);
        let declared = format!("events: {{ work.done: , mail.sent: }}\n{others}");
        assert_eq!(grants_of(&declared)[0], "publish: [mail.sent]");
    }

    /// What is shown can be copied: it is what the manifest takes.
    #[test]
    fn what_is_written_is_taken() {
        let grants = grants_of("consumers: { giver: { component: a.wasm, on: work.wanted } }").join(", ");
        grants_of(&format!("consumers: {{ giver: {{ component: a.wasm, on: work.wanted, grants: {{ {grants} }} }} }}"));
    }
}
