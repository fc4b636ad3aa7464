//! The binary `iguazu`: arguments in, exit code out. The only place that ends the process.

/// On Linux the crate's `override` feature replaces C malloc as well, so librdkafka, which allocates in one thread and
/// frees in another (glibc's worst case), is served by it too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    std::process::ExitCode::from(iguazu::cli::run(std::env::args_os()))
}
