//! `mentiko`, the command for people: secrets, chains, the access log.

use std::process::ExitCode;

use mentiko_exec::memory::WipingAllocator;

#[global_allocator]
static ALLOCATOR: WipingAllocator = WipingAllocator;

fn main() -> ExitCode {
    mentiko_exec::admin::main()
}
