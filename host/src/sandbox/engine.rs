//! The engine's settings with their reasons, and the ticker that lets the host interrupt guests.

use std::num::NonZeroUsize;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use wasmtime::{
    Config, Enabled, Engine, EngineWeak, InstanceAllocationStrategy, OperatorCost, PoolingAllocationConfig, Strategy,
    WasmFeatures,
};

use super::limits::{INSTANCES_MAX, MEMORIES_MAX, TABLE_ELEMENTS_MAX, TABLES_MAX};
use crate::model::spec::Ceilings;

/// How often a running guest hands control back at the latest.
pub(super) const TICK: Duration = Duration::from_millis(10);
/// How long the ticker goes on with nothing running: waking a thread costs more than an attempt.
const IDLE_TICKS_MAX: u32 = 100;
/// Stack of a guest, and of the fiber it runs on: the gap is for the host's own code.
pub(super) const STACK_BYTES: usize = 512 << 10;
const FIBER_BYTES: usize = 2 << 20;
/// The address space of a 32-bit memory.
const MEMORY_BYTES_MAX: u64 = 4 << 30;

/// The profile that every component is compiled for and run under. The same in the host and in the compile child,
/// for `attempts` and `memory` do not change the code that is generated.
pub(super) fn config(ceilings: &Ceilings) -> Config {
    let mut config = Config::new();
    features(&mut config);
    // Cranelift: the tier-1 back end; epochs do not work with Winch.
    config.strategy(Strategy::Cranelift);
    config.cranelift_nan_canonicalization(true);
    // Fuel is deterministic, epochs are cheap and bounded in time: two independent clocks.
    config.consume_fuel(true);
    config.epoch_interruption(true);
    let mut cost = OperatorCost::new();
    // The default is 0: growing memory, which the kernel must zero, would be free.
    cost.variable.memory_grow_per_page = 255;
    config.operator_cost(cost);
    config.max_wasm_stack(STACK_BYTES);
    config.async_stack_size(FIBER_BYTES);
    // Stacks come from a pool shared by all consumers.
    config.async_stack_zeroing(true);
    config.memory_init_cow(true);
    config.wasm_backtrace_max_frames(NonZeroUsize::new(32));
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(ceilings)));
    config
}

/// Names every proposal, also those whose default is already what we want: a default that changes in an upgrade
/// must not change what we accept. The golden test below reads back the result.
fn features(config: &mut Config) {
    config.concurrency_support(false);
    config.gc_support(false);
    config.wasm_gc(false);
    config.wasm_features(WasmFeatures::FUNCTION_REFERENCES | WasmFeatures::GC | WasmFeatures::GC_TYPES, false);
    config.shared_memory(false);
    config.wasm_memory64(false);
    // Composed components have one memory per core module, which is not this proposal.
    config.wasm_multi_memory(false);
    config.wasm_custom_page_sizes(false);
    config.wasm_stack_switching(false);
    config.wasm_wide_arithmetic(false);
    config.wasm_relaxed_simd(false);
    config.relaxed_simd_deterministic(true);
    config.wasm_tail_call(true);
    config.wasm_component_model_gc(false);
    config.wasm_component_model_map(false);
    config.wasm_component_model_memory64(false);
    config.wasm_component_model_fixed_length_lists(false);
    config.wasm_component_model_error_context(false);
    config.wasm_component_model_implements(false);
}

/// Totals are the caps of one component times the calls at once, so that no component can starve another.
fn pool(ceilings: &Ceilings) -> PoolingAllocationConfig {
    let attempts = ceilings.attempts.max(1).saturating_add(ceilings.answers());
    let memory = ceilings.memory.min(MEMORY_BYTES_MAX);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(attempts);
    pool.total_stacks(attempts);
    pool.total_core_instances(attempts.saturating_mul(INSTANCES_MAX));
    pool.max_core_instances_per_component(INSTANCES_MAX);
    pool.total_memories(attempts.saturating_mul(MEMORIES_MAX));
    pool.max_memories_per_component(MEMORIES_MAX);
    pool.total_tables(attempts.saturating_mul(TABLES_MAX));
    pool.max_tables_per_component(TABLES_MAX);
    pool.table_elements(TABLE_ELEMENTS_MAX);
    pool.max_memory_size(usize::try_from(memory).unwrap_or(usize::MAX));
    // Kept mapped between attempts: 10 µs an attempt instead of 26.
    pool.linear_memory_keep_resident(2 << 20);
    pool.table_keep_resident(16 << 10);
    pool.async_stack_keep_resident(64 << 10);
    pool.pagemap_scan(Enabled::Auto);
    pool
}

/// Advances the engine's epoch while anything runs, on a thread of its own that no guest can occupy; asleep when
/// nothing runs.
pub(super) struct Ticker {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<Ticking>,
    changed: Condvar,
}

struct Ticking {
    running: u64,
    /// Ticks in a row with nothing running.
    idle: u32,
    stop: bool,
}

impl Ticking {
    /// The thread waits to be woken, not for time.
    fn is_asleep(&self) -> bool {
        self.running == 0 && self.idle >= IDLE_TICKS_MAX && !self.stop
    }
}

impl Shared {
    fn update(&self, change: impl FnOnce(&mut Ticking)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn run(&self, engine: &EngineWeak) {
        loop {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let state = self.changed.wait_while(state, |s| s.is_asleep()).unwrap_or_else(PoisonError::into_inner);
            let (mut state, _) =
                self.changed.wait_timeout_while(state, TICK, |s| !s.stop).unwrap_or_else(PoisonError::into_inner);
            if state.stop {
                return;
            }
            state.idle = if state.running == 0 { state.idle.saturating_add(1) } else { 0 };
            drop(state);
            match engine.upgrade() {
                Some(engine) => engine.increment_epoch(),
                None => return,
            }
        }
    }
}

impl Ticker {
    pub(super) fn start(engine: &Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(Ticking { running: 0, idle: 0, stop: false }),
            changed: Condvar::new(),
        });
        let (engine, theirs) = (engine.weak(), Arc::clone(&shared));
        std::thread::Builder::new().name("sandbox-ticker".into()).spawn(move || theirs.run(&engine))?;
        Ok(Self { shared })
    }

    /// Ticks until the guard is dropped.
    pub(super) fn tick(&self) -> Tick {
        let mut asleep = false;
        self.shared.update(|s| {
            asleep = s.is_asleep();
            s.running += 1;
        });
        if asleep {
            self.shared.changed.notify_one();
        }
        Tick { shared: Arc::clone(&self.shared) }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.update(|s| s.stop = true);
        self.shared.changed.notify_all();
    }
}

pub(super) struct Tick {
    shared: Arc<Shared>,
}

impl Drop for Tick {
    fn drop(&mut self) {
        self.shared.update(|s| s.running = s.running.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_lock_file() {
        let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock")).unwrap();
        let wanted = format!("name = \"wasmtime\"\nversion = \"{}\"\n", crate::sandbox::WASMTIME);
        assert!(lock.contains(&wanted), "sandbox::WASMTIME is out of date");
    }

    /// What an upgrade of the engine may not change silently.
    #[test]
    fn the_engine_accepts_exactly_these_features() {
        let engine = Engine::new(&config(&Ceilings::default())).unwrap();
        let wanted = WasmFeatures::MUTABLE_GLOBAL
            | WasmFeatures::SATURATING_FLOAT_TO_INT
            | WasmFeatures::SIGN_EXTENSION
            | WasmFeatures::REFERENCE_TYPES
            | WasmFeatures::MULTI_VALUE
            | WasmFeatures::BULK_MEMORY
            | WasmFeatures::SIMD
            | WasmFeatures::TAIL_CALL
            | WasmFeatures::FLOATS
            | WasmFeatures::EXTENDED_CONST
            | WasmFeatures::COMPONENT_MODEL;
        let config = &engine;
        let names = |features: WasmFeatures| features.iter_names().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(config.get_wasm_features()), names(wanted));
        assert!(!config.get_concurrency_support());
        assert!(!config.get_shared_memory());
        assert!(config.get_epoch_interruption());
        assert!(config.get_consume_fuel());
        assert!(config.get_async_stack_zeroing());
        assert_eq!(config.get_cranelift_nan_canonicalization(), Some(true));
        assert_eq!(config.get_strategy(), Some(Strategy::Cranelift));
        assert_eq!((config.get_max_wasm_stack(), config.get_async_stack_size()), (512 << 10, 2 << 20));
    }
}
