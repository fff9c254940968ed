//! The attempt as its guest sees it: what is left, and how to ask for more time. Linked by hand, because the fuel that is left is known to the store
//! alone, which generated bindings do not hand out.

use wasmtime::component::Linker;
use wasmtime::{AsContext, StoreContextMut};

use super::super::bindings::attempt::Budget;
use super::super::instance::Host;
use super::super::limits::Stop;

const INTERFACE: &str = "tidegate:consumer/attempt@0.1.0";

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    let mut interface = linker.instance(INTERFACE)?;
    interface.func_wrap("remaining", |mut store: StoreContextMut<'_, Host>, (): ()| {
        let fuel = store.as_context().get_fuel()?;
        let host = store.data_mut();
        host.account.enter(0)?;
        Ok((Budget {
            remaining_ms: host.remaining_ms(),
            remaining_fuel: fuel.saturating_sub(host.account.debt()),
            remaining_memory: host.limiter.remaining(),
        },))
    })?;
    interface.func_wrap("in-progress", |mut store: StoreContextMut<'_, Host>, (): ()| {
        Ok((store.data_mut().in_progress()?,))
    })
}

impl Host {
    /// Extends the deadline as far as the limits allow, and gives what remains in milliseconds. It may come after the
    /// deadline, before anybody has noticed; then it is the end.
    pub(in crate::sandbox) fn in_progress(&mut self) -> wasmtime::Result<u64> {
        self.account.enter(0)?;
        if self.is_late() {
            return Err(Stop::Time.into());
        }
        self.deadline.extend(self.clock.monotonic());
        Ok(self.remaining_ms())
    }
}

#[cfg(test)]
#[path = "attempt_tests.rs"]
mod tests;
