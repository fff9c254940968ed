use std::sync::Arc;

use super::super::http::system_resolver;
use super::*;
use crate::model::{Grants, Limits};
use crate::sandbox::{Dependencies, testing};

/// Committed state in memory: key, value, version.
struct Committed(BTreeMap<&'static str, (&'static str, u64)>);

impl StateRead for Committed {
    fn get(&self, _: &ConsumerName, key: &str, _: Timestamp) -> Result<Option<(Bytes, u64)>, String> {
        if key == "broken" {
            return Err("the store is gone".into());
        }
        Ok(self.0.get(key).map(|(value, version)| (Bytes::from_static(value.as_bytes()), *version)))
    }

    fn keys(&self, _: &ConsumerName, list: &List<'_>, _: Timestamp) -> Result<(Vec<String>, u64), String> {
        let from = list.after.unwrap_or_default();
        let keys = self.0.keys().filter(|key| key.starts_with(list.prefix) && **key > from);
        Ok((keys.take(list.limit as usize).map(|key| (*key).to_owned()).collect(), 42))
    }

    fn bytes(&self, _: &ConsumerName) -> Result<u64, String> {
        Ok(self.0.iter().map(|(key, (value, _))| (key.len() + value.len()) as u64).sum())
    }
}

fn host(committed: &[(&'static str, &'static str)], quota: u64) -> Host {
    let committed = committed.iter().enumerate().map(|(n, (key, value))| (*key, (*value, n as u64 + 1)));
    let dependencies = Dependencies { state: Arc::new(Committed(committed.collect())), ..Dependencies::none() };
    let grants = Grants { state: Some(quota), ..Grants::default() };
    testing::host_on(dependencies, Limits::default(), grants, system_resolver())
}

fn get(host: &mut Host, key: &str) -> Option<String> {
    let value = state::Host::get(host, key.into()).unwrap().unwrap();
    value.map(|value| String::from_utf8(value).unwrap())
}

fn set(host: &mut Host, key: &str, value: &str) -> Result<(), StateError> {
    state::Host::set(host, key.into(), value.into(), None).unwrap()
}

fn page(host: &mut Host, prefix: &str, after: Option<&str>, limit: u32) -> (Vec<String>, Option<String>) {
    let page = state::Host::keys(host, prefix.into(), after.map(Into::into), limit).unwrap().unwrap();
    (page.keys, page.next)
}

#[test]
fn what_is_read_is_remembered_with_its_version_and_own_writes_are_not_reads() {
    let mut host = host(&[("a", "1"), ("b", "2")], 1_000);
    assert_eq!(get(&mut host, "a").as_deref(), Some("1"));
    assert_eq!(get(&mut host, "absent"), None);
    set(&mut host, "b", "mine").unwrap();
    assert_eq!(get(&mut host, "b").as_deref(), Some("mine"));
    assert!(matches!(state::Host::increment(&mut host, "a".into(), 2).unwrap(), Ok(3)));
    let changes = host.state.into_changes();
    assert_eq!(changes.reads, [("a".to_owned(), 1), ("absent".to_owned(), 0)].into());
    assert_eq!(changes.writes.len(), 2);
    assert_eq!(changes.listed_at, None);
}

#[test]
fn listing_sees_own_writes_on_any_page() {
    let mut host = host(&[("k1", ""), ("k2", ""), ("k4", ""), ("k6", ""), ("other", "")], 1_000);
    set(&mut host, "k3", "").unwrap();
    set(&mut host, "z", "").unwrap();
    state::Host::delete(&mut host, "k2".into()).unwrap().unwrap();
    let (keys, next) = page(&mut host, "k", None, 2);
    assert_eq!((keys, next.as_deref()), (vec!["k1".to_owned(), "k3".to_owned()], Some("k3")));
    let (keys, next) = page(&mut host, "k", Some("k3"), 2);
    assert_eq!((keys, next), (vec!["k4".to_owned(), "k6".to_owned()], None));
    assert_eq!(host.state.into_changes().listed_at, Some(42));
}

#[test]
fn the_quota_counts_what_is_there_and_what_is_written() {
    let mut host = host(&[("a", "12345")], 10);
    set(&mut host, "b", "123").unwrap();
    assert!(matches!(set(&mut host, "c", "1"), Err(StateError::QuotaExceeded(10))));
    set(&mut host, "b", "").unwrap();
    set(&mut host, "c", "1").unwrap();
}

#[test]
fn a_store_that_cannot_answer_is_unavailable() {
    let mut host = host(&[], 10);
    let answer = state::Host::get(&mut host, "broken".into()).unwrap();
    assert!(matches!(answer, Err(StateError::Unavailable(why)) if why == "the store is gone"));
}
