//! Two hosts on one database, which only a lock that does not hold can let happen: the older one writes nothing more.

use super::rig::Rig;
use crate::log::conformance::{consumer, event};
use crate::log::{Error, EventLog as _};
use crate::planted::{Bug, plant};

/// What the older of two hosts is answered.
async fn older_writes() -> Result<bool, Error> {
    let rig = Rig::forgetful();
    let (older, _feed) = rig.open().unwrap();
    older.append(vec![event("1", "a.one")]).await.unwrap();
    std::fs::remove_file(rig.folder().join("tidegate.db.lock")).unwrap();
    let (newer, _feed) = rig.open().unwrap();
    newer.append(vec![event("2", "a.one")]).await.unwrap();
    let answer = older.pause(consumer("mail"), true).await;
    assert_eq!(newer.recover(consumer("mail")).await.unwrap().paused, answer.is_ok());
    answer
}

#[tokio::test]
async fn the_older_one_is_fenced() {
    let answer = older_writes().await;
    assert!(matches!(&answer, Err(Error::Failed(why)) if why.contains("another host")), "{answer:?}");
    // The check is what does it.
    let _planted = plant(Bug::ClaimWithoutEpoch);
    let answer = older_writes().await;
    assert!(answer.is_ok(), "{answer:?}");
}
