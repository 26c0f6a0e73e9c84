//! The `wavehull` program: proves properties of neural networks on a GPU. `wavehull --help` lists its commands.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
