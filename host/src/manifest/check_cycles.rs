//! Chains of causes that lead back to where they began, as far as the manifest shows them: who may publish what, who is called
//! for it, who may give jobs to whom, and which consumers a pipeline calls. And circles of questions: a responder leaves nothing
//! behind, so that a question causes nothing but the questions that its responder asks.

use std::collections::{BTreeSet, VecDeque};

use super::authored::Manifest;
use super::check::{self, Joined};
use super::codes;
use super::diagnostic::Diagnostic;
use super::elements::pipeline::Named;
use super::flat::{Authored, flat};
use super::reader::{At, Reader};
use super::yaml::Span;
use crate::model::{ConsumerName, TypePattern};

/// Places that a warning shows; a longer cycle is named in its message.
const PLACES_MAX: usize = 8;

/// Edges that are followed: a manifest in which everybody is called for everything has more than anybody reads.
const EDGES_MAX: usize = 50_000;

/// A consumer or a pipeline.
struct Node {
    name: ConsumerName,
    edges: Vec<Edge>,
}

struct Edge {
    to: usize,
    way: Way,
    /// Where the manifest says that it is caused, and how.
    from: Span,
    remark: &'static str,
    /// Where it is taken.
    on: Option<Span>,
}

/// How one leads to the other.
enum Way {
    /// What is published, or asked.
    Type(String),
    Job,
    Step,
}

/// What is said of a circle.
struct Words {
    code: &'static str,
    may: &'static str,
    taken: &'static str,
    help: &'static str,
}

const CAUSES: Words = Words {
    code: codes::CYCLE,
    may: "may cause itself",
    taken: "… and is called for it",
    help: "such a chain ends only at `chain-depth`; subscribe to less, or publish another type",
};

const QUESTIONS: Words = Words {
    code: codes::QUESTION_CYCLE,
    may: "may ask itself",
    taken: "… and answers it",
    help: "such questions fail where they are nested too deep; a responder that is asked again needs another type, or no such grant",
};

pub(super) fn check(reader: &mut Reader, manifest: &Manifest, consumers: &[Joined<'_>]) {
    tell(reader, &graph(manifest, consumers), &CAUSES);
    tell(reader, &questions(manifest), &QUESTIONS);
}

/// Warns about each circle, of which no two have a member in common.
fn tell(reader: &mut Reader, nodes: &[Node], words: &Words) {
    let mut told: BTreeSet<usize> = BTreeSet::new();
    for start in 0..nodes.len() {
        if told.contains(&start) {
            continue;
        }
        let Some(cycle) = shortest(nodes, start) else { continue };
        told.extend(cycle.iter().map(|(node, _)| *node));
        warn(reader, nodes, &cycle, words);
    }
}

/// Who is called for which events.
struct Taker {
    node: usize,
    on: Vec<At<TypePattern>>,
}

fn graph(manifest: &Manifest, consumers: &[Joined<'_>]) -> Vec<Node> {
    let mut takers: Vec<Taker> = Vec::new();
    let names = consumers.iter().map(|consumer| &consumer.name);
    let names = names.chain(manifest.pipelines.iter().map(|named| &named.name.value));
    let mut nodes: Vec<Node> = names.map(|name| Node { name: name.clone(), edges: Vec::new() }).collect();
    for (node, consumer) in consumers.iter().enumerate() {
        takers.push(Taker { node, on: check::subscribed(manifest, consumer) });
    }
    for (index, named) in manifest.pipelines.iter().enumerate() {
        let on = named.pipeline.on.value.iter().map(|on| on.pattern.clone()).collect();
        takers.push(Taker { node: consumers.len() + index, on });
    }
    let mut left = EDGES_MAX;
    for (node, consumer) in nodes.iter_mut().zip(consumers) {
        let grants = consumer.named.and_then(|named| named.consumer.grants.as_ref());
        for publish in grants.map_or(&[] as &[_], |grants| &grants.value.publish) {
            caused(node, publish, "may publish this …", &takers, &mut left);
        }
        for job in grants.map_or(&[] as &[_], |grants| &grants.value.jobs) {
            given(node, job, consumers);
        }
    }
    for (node, named) in nodes.iter_mut().skip(consumers.len()).zip(&manifest.pipelines) {
        calls(node, named, consumers);
        // Each run tells what becomes of it.
        if let Ok(value) = TypePattern::new(RUN_EVENTS) {
            let told = At { value, span: named.name.span.clone() };
            caused(node, &told, "its runs are told of …", &takers, &mut left);
        }
    }
    nodes
}

/// The host's events about runs.
const RUN_EVENTS: &str = "tidegate.run.*";

fn caused(node: &mut Node, publish: &At<TypePattern>, remark: &'static str, takers: &[Taker], left: &mut usize) {
    for taker in takers {
        if *left == 0 {
            return;
        }
        let Some(on) = taker.on.iter().find(|on| on.value.overlaps(&publish.value)) else { continue };
        *left -= 1;
        // Of two patterns, the one without a wildcard says more.
        let event = if on.value.is_exact() { &on.value } else { &publish.value };
        node.edges.push(Edge {
            to: taker.node,
            way: Way::Type(event.as_str().to_owned()),
            from: publish.span.clone(),
            remark,
            on: Some(on.span.clone()),
        });
    }
}

fn calls(node: &mut Node, named: &Named, consumers: &[Joined<'_>]) {
    for placed in flat(&named.pipeline.steps.value) {
        let Authored::Call(step) = placed.step else { continue };
        for called in [&step.consumer, &step.compensate].into_iter().flatten() {
            if let Some(to) = consumers.iter().position(|consumer| consumer.name == called.value) {
                let from = called.span.clone();
                node.edges.push(Edge { to, way: Way::Step, from, remark: "calls this …", on: None });
            }
        }
    }
}

fn given(node: &mut Node, target: &At<ConsumerName>, consumers: &[Joined<'_>]) {
    if let Some(to) = consumers.iter().position(|consumer| consumer.name == target.value) {
        let from = target.span.clone();
        node.edges.push(Edge { to, way: Way::Job, from, remark: "may give jobs to this …", on: None });
    }
}

/// Who answers, and whom they may ask in turn. What a consumer's handler asks is begun by an event, and no part of a circle.
fn questions(manifest: &Manifest) -> Vec<Node> {
    let responders: Vec<_> = manifest.consumers.iter().filter(|named| !named.consumer.answers.is_empty()).collect();
    let mut left = EDGES_MAX;
    let mut nodes = Vec::new();
    for named in &responders {
        let mut edges = Vec::new();
        for asked in named.consumer.grants.as_ref().map_or(&[] as &[_], |grants| &grants.value.queries) {
            for (to, responder) in responders.iter().enumerate().take(left) {
                let answered = responder.consumer.answers.iter().find(|answered| asked.value.matches(&answered.value));
                let Some(answered) = answered else { continue };
                left = left.saturating_sub(1);
                edges.push(Edge {
                    to,
                    way: Way::Type(answered.value.clone()),
                    from: asked.span.clone(),
                    remark: "may ask this …",
                    on: Some(answered.span.clone()),
                });
            }
        }
        nodes.push(Node { name: named.name.value.clone(), edges });
    }
    nodes
}

/// The shortest way from a node back to itself: each node on it, and its edge to the next.
fn shortest(nodes: &[Node], start: usize) -> Option<Vec<(usize, usize)>> {
    let mut came: Vec<Option<(usize, usize)>> = vec![None; nodes.len()];
    let mut open = VecDeque::from([start]);
    while let Some(here) = open.pop_front() {
        for (index, edge) in nodes.get(here)?.edges.iter().enumerate() {
            if edge.to == start {
                return Some(way(&came, start, (here, index)));
            }
            let place = came.get_mut(edge.to)?;
            if place.is_none() {
                *place = Some((here, index));
                open.push_back(edge.to);
            }
        }
    }
    None
}

fn way(came: &[Option<(usize, usize)>], start: usize, last: (usize, usize)) -> Vec<(usize, usize)> {
    let mut way = vec![last];
    let mut here = last.0;
    while here != start
        && let Some(Some(step)) = came.get(here)
    {
        way.push(*step);
        here = step.0;
    }
    way.reverse();
    way
}

fn warn(reader: &mut Reader, nodes: &[Node], cycle: &[(usize, usize)], words: &Words) {
    let Some(first) = cycle.first().and_then(|(node, _)| nodes.get(*node)) else { return };
    let edges: Vec<&Edge> = cycle.iter().filter_map(|(node, edge)| nodes.get(*node)?.edges.get(*edge)).collect();
    let mut text = format!("`{}`", first.name);
    for edge in &edges {
        match &edge.way {
            Way::Type(of) => text.push_str(&format!(" → {of}")),
            Way::Job => text.push_str(" → a job"),
            Way::Step => {}
        }
        let to = nodes.get(edge.to).map_or("", |node| node.name.as_str());
        text.push_str(&format!(" → `{to}`"));
    }
    let message = format!("`{}` {}: {text}", first.name, words.may);
    let mut warning = Diagnostic::warning(words.code, message);
    for edge in edges.iter().take(PLACES_MAX) {
        warning = warning.at(&reader.source, edge.from.clone(), edge.remark);
        if let Some(on) = &edge.on {
            warning = warning.at(&reader.source, on.clone(), words.taken);
        }
    }
    reader.push(warning.help(words.help));
}
