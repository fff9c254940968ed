//! The saga of `examples/fulfilment` under kills and reloads: every run ends as its order says, stock and money add up to the
//! cent, and nothing is undone twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use tidegate_tests::dice::Dice;
use tidegate_tests::{Host, Project};

/// Orders in all; `TIDEGATE_RUNS` says how many.
fn orders() -> u64 {
    std::env::var("TIDEGATE_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(500)
}

/// Kills, spread over the orders.
const KILLS: u64 = 8;
const STOCK: i64 = 1_000_000_000;

const MANIFEST: &str = r#"
tidegate: 1
server: { listen: 127.0.0.1:0, grace: 1s }
log: sqlite:data/tidegate.db
defaults: { timeout: 60s, retry: { attempts: 50, initial: 10ms, max: 100ms } }
limits: { attempts: 32 }
consumers:
  warehouse: { component: warehouse.wasm, concurrency: 4, answers: stock.check, grants: { state: true, config: { initial-stock: STOCK } } }
  till: { component: till.wasm, concurrency: 4, grants: { publish: [payment.taken, payment.refunded], state: true } }
  bank: { component: bank.wasm, on: payment.taken, grants: { publish: [payment.settled], config: { refuses-cents: 66600 } } }
  letter: { component: letter.wasm, grants: { publish: [order.confirmed] } }
  courier: { component: courier.wasm, grants: { publish: [order.shipped, order.called-back] } }
pipelines:
  fulfil-order:
    on: order.created
    key: data.orderId
    on-failure: compensate
    steps:
      - { name: reserve, consumer: warehouse, compensate: warehouse }
      - { name: pay,     consumer: till,      compensate: till }
      - parallel:
          - { name: confirm, consumer: letter }
          - { name: ship,    consumer: courier, compensate: courier, when: steps.reserve.inStock }
      - { name: settled, wait-for: payment.settled, match: data.orderId, timeout: 1h }
"#;

fn manifest(generation: u64) -> String {
    // What differs is of no weight: it makes another generation.
    MANIFEST.replace("STOCK", &STOCK.to_string()).replace("max: 100ms", &format!("max: {}ms", 100 + generation))
}

/// Every tenth order has a card that is declined.
fn is_declined(order: u64) -> bool {
    order % 10 == 3
}

fn cents(order: u64) -> i64 {
    100 + (order * 37 % 5_000) as i64
}

fn order(number: u64) -> Value {
    let data = json!({
        "orderId": format!("A-{number}"), "sku": "tea", "quantity": 1 + number % 3, "cents": cents(number),
        "declined": is_declined(number),
    });
    json!({ "id": format!("order-{number}"), "source": "shop", "type": "order.created", "data": data })
}

/// Sends orders from `next` on until there are no more, or the host is gone. An order that was not acknowledged is sent again.
fn feed(host: &Host, next: &Arc<AtomicU64>) -> std::thread::JoinHandle<()> {
    let (mut client, next) = (host.client(), next.clone());
    std::thread::spawn(move || {
        loop {
            let number = next.load(Ordering::SeqCst);
            if number >= orders() {
                return;
            }
            let last = orders().min(number + 16);
            let batch: Vec<Value> = (number..last).map(order).collect();
            match client.post("/events", json!(batch).to_string().as_bytes()) {
                Ok(response) if response.status == 202 => next.store(last, Ordering::SeqCst),
                Ok(response) if response.status == 429 => std::thread::yield_now(),
                _ => return,
            }
        }
    })
}

fn ended(project: &Project) -> u64 {
    project.count("SELECT count(*) FROM runs WHERE ended_at IS NOT NULL").unsigned_abs()
}

#[test]
fn money_and_stock_add_up_whatever_happens() {
    let mut dice = Dice::new();
    let project = Project::new(&manifest(0));
    for name in ["warehouse", "till", "bank", "letter", "courier"] {
        project.install(name, &format!("{name}.wasm"));
    }
    let next = Arc::new(AtomicU64::new(0));
    for kill in 1..=KILLS {
        let host = project.start();
        let feeder = feed(&host, &next);
        // The moments are drawn in runs that have ended, not in time.
        let share = orders() / (KILLS + 1);
        let moment = share * (kill - 1) + share / 2 + dice.roll(share / 2);
        while ended(&project) < moment {
            std::thread::yield_now();
        }
        project.write("tidegate.yaml", manifest(kill));
        if kill % 2 == 0 {
            project.ok(&["reload"]);
        }
        host.kill();
        feeder.join().unwrap();
    }
    let host = project.start();
    feed(&host, &next).join().unwrap();
    project.ok(&["wait", "--all", "--timeout", "30m"]);
    let (code, said) = host.stop();
    assert_eq!(code, 0, "{said}");
    check(&project);
}

fn check(project: &Project) {
    let by_status = project.rows("SELECT status, count(*) FROM runs GROUP BY 1 ORDER BY 1");
    let declined = (0..orders()).filter(|order| is_declined(*order)).count();
    let completed = orders() as usize - declined;
    let why = "SELECT run, entry, step, reason FROM run_journal WHERE (entry = 'failed' AND reason NOT LIKE '%declined%') \
               OR run IN (SELECT id FROM runs WHERE ended_at IS NULL)";
    let expected = [[json!("compensated"), json!(declined)], [json!("completed"), json!(completed)]];
    assert_eq!(by_status, expected, "{:?} {:?}", project.rows(why), project.rows("SELECT * FROM waiting"));
    let wrong = project.count(
        "SELECT count(*) FROM runs AS r JOIN events AS e USING (sequence) \
         WHERE (r.status = 'completed') = coalesce(e.data ->> 'declined', 0)",
    );
    assert_eq!(wrong, 0, "runs that ended otherwise than their orders say");

    let good = || (0..orders()).filter(|order| !is_declined(*order));
    let state = |consumer: &str| {
        let sql = format!("SELECT value FROM state WHERE consumer = '{consumer}'");
        project.rows(&sql)[0][0].as_str().unwrap().parse::<i64>().unwrap()
    };
    assert_eq!(state("till"), good().map(cents).sum::<i64>(), "money, to the cent");
    let sold: u64 = good().map(|order| 1 + order % 3).sum();
    assert_eq!(state("warehouse"), STOCK - sold as i64, "stock, to the piece");

    let twice = "SELECT count(*) FROM (SELECT run, step FROM run_journal WHERE entry = 'WORD' GROUP BY 1, 2 HAVING count(*) > 1)";
    for word in ["done", "undone", "undo-began", "step-began"] {
        assert_eq!(project.count(&twice.replace("WORD", word)), 0, "{word} twice");
    }
    let undone = project.count("SELECT count(*) FROM run_journal WHERE entry = 'undone'");
    assert_eq!(undone, declined as i64, "each declined order had one step to undo");
    let applied = "SELECT count(*) FROM outcomes WHERE origin = 'compensation' AND outcome = 'done'";
    assert_eq!(project.count(applied), declined as i64, "no compensation ran twice");
    let published = |what: &str| project.count(&format!("SELECT count(*) FROM events WHERE type = '{what}'"));
    for what in ["payment.taken", "payment.settled", "order.shipped", "order.confirmed"] {
        assert_eq!(published(what), completed as i64, "{what}");
    }
    assert_eq!(published("tidegate.run.started"), orders() as i64);
    assert_eq!(project.count("SELECT count(*) FROM dead_letters"), 0);
}
