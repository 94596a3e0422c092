//! A fresh network namespace for each test.

use std::future::Future;
use std::io::{self, Write};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use tidewire_netdev::linux::{Tun, TunConfig, unshare_network};

/// Every test must be done by then; they take milliseconds.
const DEADLINE: Duration = Duration::from_secs(20);

/// Real-time tests run one at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs `test` on a thread and runtime of its own in a new network namespace, or says why it cannot.
pub(crate) fn in_namespace<F>(test: impl FnOnce() -> F + Send)
where
    F: Future<Output = ()>,
{
    let _one = ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let run = || {
        if let Err(reason) = enter_namespace() {
            skip(&reason);
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            tokio::time::timeout(DEADLINE, test())
                .await
                .expect("done before the deadline");
        });
        let test = thread::current();
        let _ = writeln!(
            io::stderr(),
            "kernel: 1 cases ({})",
            test.name().unwrap_or_default()
        );
    };
    let name = thread::current().name().unwrap_or_default().to_owned();
    thread::scope(|scope| {
        let thread = thread::Builder::new().name(name);
        let thread = thread.spawn_scoped(scope, run).expect("a thread");
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// As [`in_namespace`], for a test that runs a tool there.
pub(crate) fn in_namespace_with<F>(program: &str, test: impl FnOnce() -> F + Send)
where
    F: Future<Output = ()>,
{
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|folder| folder.join(program).is_file()) {
        in_namespace(test);
    } else {
        skip(&format!("needs {program}"));
    }
}

fn skip(reason: &str) {
    assert!(
        std::env::var_os("TIDEWIRE_REQUIRE_ALL").is_none_or(|value| value != "1"),
        "cannot run, and TIDEWIRE_REQUIRE_ALL=1: {reason}"
    );
    // Not `eprintln!`, which a passing test keeps to itself.
    let _ = writeln!(io::stderr(), "skipped: {reason}");
}

fn enter_namespace() -> Result<(), String> {
    unshare_network().map_err(|error| format!("no network namespace without root: {error}"))?;
    Tun::open(TunConfig::default())
        .map(drop)
        .map_err(|error| error.to_string())
}
