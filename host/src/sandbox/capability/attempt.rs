//! The attempt as its guest sees it: what is left. Linked by hand, because the fuel that is left is known to the store
//! alone, which generated bindings do not hand out.

use wasmtime::component::Linker;
use wasmtime::{AsContext, StoreContextMut};

use super::super::bindings::attempt::Budget;
use super::super::instance::Host;

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
    // The manifest has no room beyond the time limit yet, so this only answers.
    interface.func_wrap("in-progress", |mut store: StoreContextMut<'_, Host>, (): ()| {
        let host = store.data_mut();
        host.account.enter(0)?;
        Ok((host.remaining_ms(),))
    })
}
