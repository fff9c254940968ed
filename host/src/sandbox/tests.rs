use super::testing::*;
use crate::model::{Grants, Limits, Outcome};

#[tokio::test]
async fn a_guest_handles_an_event() {
    let sandbox = sandbox();
    let component = load(&sandbox, "hostile", &spec(Limits::default(), Grants::default())).await.unwrap();
    let report = run(&component, "{}").await;
    assert_eq!((report.outcome, report.reason.as_deref()), (Outcome::Done, None));
    assert_eq!(report.logs.first().map(|l| l.message.as_str()), Some("hello"));
}
