//! Questions as people read them, from a database that a log has written.

use std::sync::Arc;

use super::retention_tests::note;
use super::tests::{OnDisk, events};
use crate::log::EventLog as _;
use crate::log::conformance::{Subject as _, consumer, delivery, settlement};
use crate::model::question::{Asker, QueryNote, Question};
use crate::model::record::QueryNode;
use crate::model::{DeliveryId, Outcome, State, Timestamp};
use crate::store::Reader;

/// One that was asked at this time.
fn asked(id: &str, at: i64, asker: Asker) -> QueryNote {
    let note = note(id, Timestamp(at));
    QueryNote { question: Arc::new(Question { asker, ..Question::clone(&note.question) }), ..note }
}

fn during(id: &DeliveryId, call: u32) -> Asker {
    Asker::Delivery { id: id.clone(), call }
}

fn ids(nodes: &[QueryNode]) -> Vec<&str> {
    nodes.iter().map(|node| node.query.id.as_str()).collect()
}

#[tokio::test]
async fn the_tree_of_an_event_has_what_was_asked_while_it_was_handled() {
    let mut disk = OnDisk::new();
    let (log, _feed) = disk.open();
    log.append(events(1..=2)).await.unwrap();
    let mail = delivery(1, "mail", 0);
    log.settle(vec![settlement(mail.clone(), Outcome::Done, State::Succeeded)]).await.unwrap();
    let responder = |query: &str| Asker::Responder { query: query.into(), consumer: consumer("stock") };
    // They are taken down when they are over, so the one that caused others is the last of them.
    log.note_query(asked("deepest", 30, responder("inner")));
    log.note_query(asked("inner", 20, responder("outer")));
    log.note_query(asked("outer", 10, during(&mail, 1)));
    log.note_query(asked("later", 40, during(&mail, 1)));
    log.note_query(asked("of-nobody-known", 10, during(&delivery(1, "passing", 0), 1)));
    log.note_query(asked("of-another-event", 10, during(&delivery(2, "mail", 0), 1)));
    log.note_query(asked("from-outside", 10, Asker::Client));
    // Nothing ends in a circle, whatever the file says.
    log.note_query(asked("round", 50, responder("round")));
    log.append(Vec::new()).await.unwrap();
    let reader = Reader::open(&disk.path()).unwrap();
    let (tree, cut) = reader.tree(1, 100).unwrap().unwrap();
    assert!(!cut);
    let [mail] = tree.deliveries.as_slice() else { panic!("{:?}", tree.deliveries) };
    assert_eq!(ids(&mail.queries), ["outer", "later"]);
    assert_eq!(ids(&mail.queries[0].queries), ["inner"]);
    assert_eq!(ids(&mail.queries[0].queries[0].queries), ["deepest"]);
    assert_eq!(ids(&tree.queries), ["of-nobody-known"]);
    for nodes_max in 1..5 {
        let (tree, cut) = reader.tree(1, nodes_max).unwrap().unwrap();
        assert!(cut, "{nodes_max}: {tree:?}");
    }
    assert!(!reader.tree(1, 6).unwrap().unwrap().1, "the event and five questions");
}
