use super::*;

const NOW: Timestamp = Timestamp(1_000_000);

fn policy(attempts: u32) -> RetryPolicy {
    RetryPolicy { attempts, jitter: Jitter::None, ..RetryPolicy::default() }
}

fn states() -> Vec<State> {
    vec![State::Pending { due_at: Timestamp(5) }, State::Leased, State::Succeeded, State::Dead, State::Cancelled]
}

fn inputs() -> Vec<Input> {
    let mut inputs = vec![Input::Claim, Input::GiveBack, Input::Cancel];
    for outcome in Outcome::ALL {
        inputs.push(Input::Ended { outcome, after: None });
        inputs.push(Input::Ended { outcome, after: Some(Duration::from_secs(9)) });
    }
    inputs
}

fn show(result: Result<Delivery, Illegal>) -> String {
    match result {
        Err(_) => "illegal".into(),
        Ok(Delivery { state: State::Pending { due_at }, attempts, calls }) => {
            format!("pending in {:?}, {attempts} attempts, {calls} calls", due_at.since(NOW))
        }
        Ok(Delivery { state, attempts, calls }) => format!("{}, {attempts} attempts, {calls} calls", state.as_str()),
    }
}

/// Every state × every input, with one attempt used of three and of two.
#[test]
fn every_state_and_input_is_decided() {
    use std::fmt::Write as _;
    let mut table = String::new();
    for attempts_max in [3, 2] {
        for state in states() {
            for input in inputs() {
                let delivery = Delivery { state, attempts: 1, calls: 4 };
                let result = delivery.step(input, &policy(attempts_max), NOW, 0);
                let name = match input {
                    Input::Ended { outcome, after } => {
                        format!("{}{}", outcome.as_str(), after.map_or(String::new(), |d| format!(" after {d:?}")))
                    }
                    other => format!("{other:?}").to_lowercase(),
                };
                let _ = writeln!(table, "1 of {attempts_max} | {:<9} | {name:<24} | {}", state.as_str(), show(result));
            }
        }
    }
    insta::with_settings!({ snapshot_path => "snapshots", prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("delivery_table", table);
    });
}

fn any_input() -> impl proptest::strategy::Strategy<Value = Input> {
    proptest::sample::select(inputs())
}

/// Whoever defers for ever is called seldom in the end, and a guest's own longer delay counts.
#[test]
fn a_defer_waits_longer_the_more_often_it_is_said() {
    let delays = |after: Option<Duration>| {
        let mut delivery = Delivery::new(NOW);
        let mut delays = Vec::new();
        for _ in 0..200 {
            delivery = delivery.step(Input::Claim, &policy(3), NOW, 0).unwrap();
            delivery = delivery.step(Input::Ended { outcome: Outcome::Defer, after }, &policy(3), NOW, 0).unwrap();
            let State::Pending { due_at } = delivery.state else { panic!("{delivery:?}") };
            delays.push(due_at.since(NOW));
        }
        assert_eq!((delivery.attempts, delivery.calls), (0, 200));
        delays
    };
    let at = |millis| Duration::from_millis(millis);
    let none = delays(None);
    assert_eq!([0, 9, 10, 29, 80, 199].map(|n| none[n]), [100, 100, 200, 400, 25_600, 30_000].map(at));
    let own = delays(Some(at(5_000)));
    assert_eq!([0, 59, 60, 199].map(|n| own[n]), [5_000, 5_000, 6_400, 30_000].map(at));
}

proptest::proptest! {
    /// Final stays final; attempts and calls never shrink; attempts never pass the policy; a call that costs nothing
    /// charges nothing.
    #[test]
    fn a_life_keeps_the_rules(inputs in proptest::collection::vec(any_input(), 0..60), attempts_max in 1_u32..6, random: u64) {
        let policy = policy(attempts_max);
        let mut delivery = Delivery::new(NOW);
        for input in inputs {
            let Ok(next) = delivery.step(input, &policy, NOW, random) else { continue };
            proptest::prop_assert!(!delivery.state.is_final(), "{delivery:?} took {input:?}");
            proptest::prop_assert!(next.attempts >= delivery.attempts && next.calls >= delivery.calls);
            proptest::prop_assert!(next.attempts <= attempts_max);
            if let Input::Ended { outcome: Outcome::Defer | Outcome::Interrupted, .. } = input {
                proptest::prop_assert_eq!(next.attempts, delivery.attempts);
                let pending = matches!(next.state, State::Pending { .. });
                proptest::prop_assert!(pending);
            }
            delivery = next;
        }
    }

    /// A delivery that is always attempted ends, whatever its guest says, unless it defers.
    #[test]
    fn attempts_end(outcomes in proptest::collection::vec(proptest::sample::select(Outcome::ALL.to_vec()), 40), attempts_max in 1_u32..6) {
        let policy = policy(attempts_max);
        let mut delivery = Delivery::new(NOW);
        let mut charged = 0;
        for outcome in outcomes {
            if delivery.state.is_final() { break; }
            delivery = delivery.step(Input::Claim, &policy, NOW, 0).unwrap();
            delivery = delivery.step(Input::Ended { outcome, after: None }, &policy, NOW, 0).unwrap();
            let free = matches!(
                outcome,
                Outcome::Defer
                    | Outcome::Interrupted
                    | Outcome::Duplicate
                    | Outcome::Expired
                    | Outcome::Crashed
                    | Outcome::Withdrawn
            );
            charged += u32::from(!free);
            proptest::prop_assert_eq!(delivery.attempts, charged);
            proptest::prop_assert!(charged < attempts_max || delivery.state.is_final());
        }
    }
}
