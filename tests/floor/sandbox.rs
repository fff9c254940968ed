//! A sandbox with nothing around it: instantiate, call, drop, on the engine profile that the host uses.

use std::path::Path;
use std::time::{Duration, Instant};

use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Result, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

mod bindings {
    wasmtime::component::bindgen!({ path: "../../wit", world: "consumer", exports: { default: async } });
}

use bindings::ConsumerPre;
use bindings::exports::tidegate::consumer::handler::Delivery;
use bindings::tidegate::consumer::types::{Event, Instant as At, Payload};

const FUEL: u64 = 1_000_000_000;
const ATTEMPTS: u32 = 64;

pub(crate) struct Guest {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// A guest, ready to be instantiated.
pub(crate) struct Bare {
    engine: Engine,
    consumer: ConsumerPre<Guest>,
    deliveries: Vec<Delivery>,
}

impl Bare {
    pub(crate) fn new(component: &Path, orders: &[String]) -> Result<Self> {
        let engine = engine()?;
        let component = Component::from_binary(&engine, &std::fs::read(component)?)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        let consumer = ConsumerPre::new(linker.instantiate_pre(&component)?)?;
        let deliveries = orders.iter().zip(1..).map(|(order, seq)| delivery(order, seq)).collect();
        Ok(Self { engine, consumer, deliveries })
    }

    /// What one attempt costs: the mean of the best of five rounds, all on one thread.
    pub(crate) fn attempt(&self, each: u32) -> Result<Duration> {
        let mut best = Duration::MAX;
        for _ in 0..5 {
            let start = Instant::now();
            self.attempts(each, || {})?;
            best = best.min(start.elapsed() / each);
        }
        Ok(best)
    }

    /// So many attempts one after the other; tells of each when it is done.
    pub(crate) fn attempts(&self, many: u32, done: impl Fn()) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        runtime.block_on(async {
            for delivery in self.deliveries.iter().cycle().take(many as usize) {
                let mut store = store(&self.engine)?;
                let consumer = self.consumer.instantiate_async(&mut store).await?;
                let handled = consumer.tidegate_consumer_handler().call_handle(&mut store, delivery).await?;
                wasmtime::ensure!(handled.is_ok(), "the guest failed: {handled:?}");
                drop(store);
                done();
            }
            Ok(())
        })
    }
}

fn engine() -> Result<Engine> {
    let mut config = Config::new();
    config.consume_fuel(true).epoch_interruption(true).concurrency_support(false);
    config.cranelift_nan_canonicalization(true);
    config.max_wasm_stack(512 << 10).async_stack_size(2 << 20).async_stack_zeroing(true);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(ATTEMPTS).total_stacks(ATTEMPTS);
    pool.total_core_instances(ATTEMPTS * 8).total_memories(ATTEMPTS * 4).total_tables(ATTEMPTS * 4);
    pool.max_memory_size(256 << 20).linear_memory_keep_resident(2 << 20).table_keep_resident(16 << 10);
    pool.pagemap_scan(Enabled::Auto).async_stack_keep_resident(64 << 10);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}

fn store(engine: &Engine) -> Result<Store<Guest>> {
    let mut store = Store::new(engine, Guest { wasi: WasiCtxBuilder::new().build(), table: ResourceTable::new() });
    store.set_fuel(FUEL)?;
    store.fuel_async_yield_interval(Some(100_000))?;
    store.set_epoch_deadline(1_000);
    store.set_hostcall_fuel(4 << 20);
    Ok(store)
}

fn delivery(order: &str, seq: u64) -> Delivery {
    let id = format!("01939c2e-0000-7000-8000-{seq:012}");
    Delivery {
        event: Event {
            id: id.clone(),
            type_: "order.created".into(),
            source: "/bench".into(),
            subject: None,
            key: None,
            data_version: "1.0.0".into(),
            timestamp: At { seconds: 1_795_000_000, nanoseconds: 0 },
            correlation_id: id,
            causation_id: None,
            traceparent: None,
            sequence: Some(seq),
            payload: Payload { content_type: "application/json".into(), data: order.as_bytes().to_vec() },
            attributes: Vec::new(),
        },
        consumer: "floor".into(),
        attempt: 1,
        attempts_max: 3,
        replayed: false,
        run: None,
    }
}
