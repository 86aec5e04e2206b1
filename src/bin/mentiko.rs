//! `mentiko`, the command for people: secrets, chains, the access log.

use std::process::ExitCode;

fn main() -> ExitCode {
    mentiko_exec::admin::main()
}
