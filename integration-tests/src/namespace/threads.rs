//! A namespace besides the test's own.

use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::resume_unwind;
use std::pin::Pin;
use std::thread::{self, JoinHandle};

use tidewire_netdev::linux::unshare_network;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, LocalSet, spawn_local};

use super::{prepare, run_program};

/// A network namespace with a thread in it, which does there what others ask for.
///
/// A test's own thread cannot enter a second namespace and come back; what must be done in one is sent there as a
/// closure. Sockets, devices and child processes made there belong to that namespace, whoever uses them later. It goes
/// away, with the interfaces in it, when this is dropped and the last socket in it is closed.
#[derive(Debug)]
pub struct Namespace {
    /// `None` once it ends.
    jobs: Option<mpsc::UnboundedSender<Job>>,
    thread: Option<JoinHandle<()>>,
    file: File,
}

type Work = Pin<Box<dyn Future<Output = ()>>>;
type Job = Box<dyn FnOnce() -> Work + Send>;

impl Namespace {
    /// A new namespace in which only `lo` is, and up. The thread gets `name`.
    ///
    /// # Errors
    /// [`io::ErrorKind::PermissionDenied`] without `CAP_SYS_ADMIN`.
    pub async fn new(name: &str) -> io::Result<Self> {
        let (jobs, queue) = mpsc::unbounded_channel();
        let (opened, file) = oneshot::channel();
        let thread = thread::Builder::new().name(name.to_owned());
        let thread = thread.spawn(move || {
            // Nobody waits any more when the other side is gone.
            let _ = match enter() {
                Ok(file) => opened.send(Ok(file)).map(|()| serve(queue)),
                Err(error) => opened.send(Err(error)).map(drop),
            };
        })?;
        let file = file.await.map_err(io::Error::other)??;
        let namespace = Self {
            jobs: Some(jobs),
            thread: Some(thread),
            file,
        };
        namespace.run(prepare).await?;
        Ok(namespace)
    }

    /// Runs `work` in the namespace, beside what else runs there. Its tasks go on when it has ended.
    ///
    /// # Panics
    /// When `work` does.
    pub async fn run<T, F>(&self, work: impl FnOnce() -> F + Send + 'static) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        let (done, result) = oneshot::channel::<Result<T, JoinError>>();
        let job: Job = Box::new(move || {
            Box::pin(async move {
                // A task of its own, so that a panic becomes the caller's.
                let _ = done.send(spawn_local(work()).await);
            })
        });
        let jobs = self.jobs.as_ref().expect("a namespace that lives");
        let sent = jobs.send(job);
        sent.unwrap_or_else(|_| panic!("the namespace's thread is there as long as this"));
        match result.await.expect("a thread that finishes its work") {
            Ok(value) => value,
            Err(error) => resume_unwind(error.into_panic()),
        }
    }

    /// Runs a program in the namespace to its end, with words that blanks separate; gives what it printed.
    ///
    /// # Panics
    /// When it fails.
    pub async fn program(&self, line: &str) -> String {
        let owned = line.to_owned();
        let run = self.run(async move || {
            let words: Vec<_> = owned.split_whitespace().collect();
            run_program(words[0], &words[1..])
        });
        let ran = run.await;
        ran.unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    /// The namespace as netlink knows it.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // What panicked there has told so.
            let _ = thread.join();
        }
    }
}

/// Moves the calling thread into a new namespace.
fn enter() -> io::Result<File> {
    unshare_network()?;
    File::open("/proc/thread-self/ns/net")
}

fn serve(mut queue: mpsc::UnboundedReceiver<Job>) {
    let runtime = Builder::new_current_thread().enable_all().build();
    let tasks = LocalSet::new();
    runtime.expect("a runtime").block_on(tasks.run_until(async {
        while let Some(job) = queue.recv().await {
            spawn_local(job());
        }
    }));
}
