//! Puts together the component that `tidegate bench` measures when it is given no other: a handler that does nothing. Made here
//! of a few instructions and the contract in `wit/`, so that the program needs no file beside it and the repository no binary.

use std::path::Path;
use std::{env, fs};

use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, ExportKind, ExportSection, Function, FunctionSection, GlobalSection, GlobalType,
    MemorySection, MemoryType, Module, TypeSection, ValType,
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const WIT: &str = "../wit";

fn main() -> Result<()> {
    println!("cargo::rerun-if-changed={WIT}");
    println!("cargo::rerun-if-changed=build.rs");
    let mut module = handler();
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(WIT)?;
    let world = resolve.select_world(&[package], Some("consumer"))?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    let component = ComponentEncoder::default().validate(true).module(&module)?.encode()?;
    let out = env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("nothing.wasm"), component)?;
    Ok(())
}

/// The core module: `handle` answers `ok(none)`, and `cabi_realloc` hands out memory one piece after the other.
fn handler() -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([ValType::I32], [ValType::I32]);
    types.ty().function([ValType::I32; 4], [ValType::I32]);
    let mut functions = FunctionSection::new();
    functions.function(0).function(1);
    let mut memories = MemorySection::new();
    memories.memory(MemoryType { minimum: 1, maximum: None, memory64: false, shared: false, page_size_log2: None });
    let mut globals = GlobalSection::new();
    let free = GlobalType { val_type: ValType::I32, mutable: true, shared: false };
    globals.global(free, &ConstExpr::i32_const(FREE));
    let mut exports = ExportSection::new();
    exports.export("memory", ExportKind::Memory, 0);
    exports.export("tidegate:consumer/handler@0.1.0#handle", ExportKind::Func, 0);
    exports.export("cabi_realloc", ExportKind::Func, 1);
    let mut code = CodeSection::new();
    code.function(&handle()).function(&realloc());
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&memories).section(&globals).section(&exports).section(&code);
    module.finish()
}

/// Where the result lies: zeros, which are `ok(none)`.
const RESULT: i32 = 1_024;
/// Where free memory begins.
const FREE: i32 = 4_096;
const PAGE_BITS: i32 = 16;

fn handle() -> Function {
    let mut function = Function::new([]);
    function.instructions().i32_const(RESULT).end();
    function
}

/// `cabi_realloc(old, old_size, align, size)` of the component model's canonical ABI. Nothing is ever given back: an instance
/// serves one attempt.
fn realloc() -> Function {
    const OLD: u32 = 0;
    const OLD_SIZE: u32 = 1;
    const ALIGN: u32 = 2;
    const SIZE: u32 = 3;
    const AT: u32 = 4;
    let mut function = Function::new([(1, ValType::I32)]);
    function
        .instructions()
        // at = (free + align - 1) & -align
        .global_get(0)
        .local_get(ALIGN)
        .i32_add()
        .i32_const(1)
        .i32_sub()
        .i32_const(0)
        .local_get(ALIGN)
        .i32_sub()
        .i32_and()
        .local_tee(AT)
        // free = at + size
        .local_get(SIZE)
        .i32_add()
        .global_set(0)
        // While free lies beyond the memory, one more page; without one, the end.
        .block(BlockType::Empty)
        .loop_(BlockType::Empty)
        .global_get(0)
        .memory_size(0)
        .i32_const(PAGE_BITS)
        .i32_shl()
        .i32_le_u()
        .br_if(1)
        .i32_const(1)
        .memory_grow(0)
        .i32_const(-1)
        .i32_ne()
        .br_if(0)
        .unreachable()
        .end()
        .end()
        .local_get(AT)
        .local_get(OLD)
        .local_get(OLD_SIZE)
        .memory_copy(0, 0)
        .local_get(AT)
        .end();
    function
}
