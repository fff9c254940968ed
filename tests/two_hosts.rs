//! Two hosts on one database: the second is refused. If the lock does not hold, the newer host has it, and the older one ends.

use std::fs;

use serde_json::json;
use tidegate_tests::Project;
use tidegate_tests::hand::Hand;
use tidegate_tests::http::Client;

fn manifest(hand: &Hand, database: &str) -> String {
    let worker = hand.consumer("worker", "order.created", "");
    format!(
        "
tidegate: 1
server: {{ listen: 127.0.0.1:0, grace: 1s }}
log: sqlite:{database}
defaults: {{ timeout: 60s }}
consumers:
{worker}"
    )
}

#[test]
fn the_second_is_refused_and_an_older_one_without_its_lock_ends() {
    let hand = Hand::new();
    let first = Project::new(&manifest(&hand, "data/tidegate.db"));
    first.install("puppet", "puppet.wasm");
    let older = first.start();
    let database = fs::canonicalize(first.path("data/tidegate.db")).unwrap();
    let second = Project::new(&manifest(&hand, database.to_str().unwrap()));
    second.install("puppet", "puppet.wasm");

    let refused = second.run(&["run"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(5), "{said}");
    for word in ["in use", &older.pid().to_string(), &older.address()] {
        assert!(said.contains(word), "{word} is not in: {said}");
    }

    // A delivery is in the older host's hand when somebody takes the lock away.
    older.emit("o-1", "order.created");
    let of_older = hand.expect("worker", "o-1", 1);
    fs::remove_file(first.path("data/tidegate.db.lock")).unwrap();
    let newer = second.start();
    let of_newer = hand.expect("worker", "o-1", 1);
    of_newer.answer(&json!({ "publish": [["order.booked", 2]] }));
    newer.client().settled("worker", 1);
    // Both have attempted it; the outcome is the newer one's.
    of_older.answer(&json!({ "publish": [["order.booked", 1]] }));
    let address = older.address();
    let (code, said) = older.ended();
    assert_eq!(code, 7, "{said}");
    assert!(said.contains("another host has taken over this database"), "{said}");
    assert!(Client::connect(&address).is_err(), "nobody listens there any more");

    newer.emit("o-2", "order.created");
    hand.expect("worker", "o-2", 1).done();
    second.ok(&["wait", "--all", "--timeout", "5m"]);
    let row = &first.rows("SELECT count(*), count(DISTINCT sequence) FROM outcomes WHERE outcome = 'done'")[0];
    assert_eq!(row, &[json!(2), json!(2)]);
    let booked = first.rows("SELECT data FROM events WHERE type = 'order.booked'");
    assert_eq!(booked, [[json!("2")]]);
    assert_eq!(newer.stop().0, 0);
}
