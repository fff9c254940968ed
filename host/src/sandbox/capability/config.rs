//! Settings from the manifest.

use super::super::bindings::config;
use super::super::instance::Host;

impl config::Host for Host {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        self.account.enter(key.len())?;
        Ok(self.consumer.grants.config.as_ref().and_then(|config| config.get(&key)).cloned())
    }

    fn all(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        let all: Vec<_> = self.consumer.grants.config.iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
        self.account.enter(all.iter().map(|(k, v)| k.len() + v.len()).sum())?;
        Ok(all)
    }
}
