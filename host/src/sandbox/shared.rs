//! Code that consumers have in common: a component that several of them are made of is mapped and made executable once, and the pool
//! finds a slot that was the same component's before, with its memory in place.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use wasmtime::component::Component;

use crate::model::Digest;

/// Components that somebody uses, by the digest of their bytes.
#[derive(Default)]
pub(super) struct Shared(Mutex<HashMap<Digest, Weak<Component>>>);

impl Shared {
    pub(super) fn get(&self, digest: &Digest) -> Option<Arc<Component>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(digest)?.upgrade()
    }

    pub(super) fn keep(&self, digest: Digest, component: Component) -> Arc<Component> {
        let component = Arc::new(component);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, component| component.strong_count() > 0);
        known.insert(digest, Arc::downgrade(&component));
        component
    }
}
