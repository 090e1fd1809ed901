//! Hubs, gateways and readers on loopback with temporary directories, for the stories in `uplink/tests`.
#![allow(dead_code, missing_docs, reason = "each story uses a part of it")]

use std::future::Future;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sedge_store::watch;
use sedge_store::{Batch, NoOwner, Partition, PartitionOptions, system_clock};
use sedge_uplink::client::{Access, Item, PullOptions, Reader, Start};
use sedge_uplink::forward::{
    ForwardEvent, ForwardHandle, ForwardOptions, Forwarder, GatewayTrust, Limits, Log, Priority,
    Time,
};
use sedge_uplink::hub::{Hub, HubError, HubHandle, HubOptions};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// A hub that runs. It can be killed, stopped, and started again at the same address.
pub(crate) struct RunningHub {
    pub(crate) address: SocketAddr,
    pub(crate) handle: HubHandle,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), HubError>>,
}

impl RunningHub {
    pub(crate) async fn start(dir: &Path) -> Self {
        Self::start_with(HubOptions::new(dir), "127.0.0.1:0".parse().unwrap()).await
    }

    pub(crate) async fn start_with(options: HubOptions, address: SocketAddr) -> Self {
        let hub = until("the directory is free", || {
            let options = options.clone();
            async move { Hub::open(options).await.ok() }
        })
        .await;
        let listener = until("the port is free", || async move {
            TcpListener::bind(address).await.ok()
        })
        .await;
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let handle = hub.handle();
        let task = tokio::spawn(hub.run(listener, async move { drop(stopped.await) }));
        Self {
            address,
            handle,
            stop: Some(stop),
            task,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("sedge://{}", self.address)
    }

    /// Ends it as a kill would: nothing more is said, what is in the air is lost.
    pub(crate) async fn kill(self) -> SocketAddr {
        self.task.abort();
        drop(self.handle);
        drop(self.task.await);
        self.address
    }

    /// Waits until it ends by itself.
    pub(crate) async fn end(self) -> Result<(), HubError> {
        let ended = timeout(LIMIT, self.task).await;
        ended.expect("the hub ends in time").unwrap()
    }

    pub(crate) async fn stop(mut self) -> Result<(), HubError> {
        drop(self.stop.take());
        timeout(LIMIT, self.task)
            .await
            .expect("the hub stops in time")
            .unwrap()
    }
}

/// A forwarder that runs, and the list of logs that it sends.
pub(crate) struct RunningForwarder {
    pub(crate) handle: ForwardHandle,
    pub(crate) logs: watch::Sender<Vec<Log>>,
    pub(crate) events: mpsc::UnboundedReceiver<ForwardEvent>,
    task: JoinHandle<()>,
}

impl RunningForwarder {
    pub(crate) fn start(url: &str, gateway: &str, logs: Vec<Log>) -> Self {
        Self::start_with(url, gateway, logs, None)
    }

    pub(crate) fn start_with(
        url: &str,
        gateway: &str,
        logs: Vec<Log>,
        trust: Option<GatewayTrust>,
    ) -> Self {
        let options = ForwardOptions {
            trust,
            ..forward_options(url, gateway)
        };
        Self::start_as(options, logs)
    }

    pub(crate) fn start_limited(
        url: &str,
        logs: Vec<Log>,
        limits: Limits,
        live_first_after: Option<Duration>,
    ) -> Self {
        let options = ForwardOptions {
            limits,
            live_first_after,
            ..forward_options(url, "gw-7")
        };
        Self::start_as(options, logs)
    }

    fn start_as(options: ForwardOptions, logs: Vec<Log>) -> Self {
        let (logs, seen) = watch::channel(logs);
        let (tell, events) = mpsc::unbounded_channel();
        let forwarder = Forwarder::new(options, seen, tell).unwrap();
        let handle = forwarder.handle();
        let task = tokio::spawn(forwarder.run(std::future::pending()));
        Self {
            handle,
            logs,
            events,
            task,
        }
    }

    pub(crate) async fn kill(self) {
        self.task.abort();
        drop(self.task.await);
    }

    /// Until the hub has everything.
    pub(crate) async fn drained(&self) {
        until("the hub has everything", || async {
            let status = self.handle.status();
            let all = status.logs.len() == self.logs.borrow().len();
            (status.connected && all && status.lag() == 0).then_some(())
        })
        .await;
    }
}

fn forward_options(url: &str, gateway: &str) -> ForwardOptions {
    ForwardOptions {
        url: url.into(),
        identity: gateway.into(),
        uplink: UPLINK,
        retry_max: Duration::from_secs(30),
        trust: None,
        limits: Limits::default(),
        time: Time::default(),
        live_first_after: None,
    }
}

pub(crate) fn log(partition: &Partition) -> Log {
    Log {
        stream: "telemetry".into(),
        partition: 0,
        chain: 0,
        closed: false,
        may_be_passed: true,
        priority: Priority::Normal,
        handle: partition.clone().into(),
    }
}

/// A file system in memory, for as long as this lives. Only root can have one.
pub(crate) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    pub(crate) fn mount(size: &str) -> Option<Self> {
        let disk = Self(tempfile::tempdir().unwrap());
        let size = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(disk.path())
            .status();
        if !mounted.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: no tmpfs can be mounted here, so the story was not told");
            return None;
        }
        Some(disk)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all but `bytes_left` of it.
    pub(crate) fn fill(&self, bytes_left: usize) {
        let kept_free = self.path().join("kept-free");
        std::fs::write(&kept_free, vec![1; bytes_left]).unwrap();
        let mut ballast = std::fs::File::create(self.path().join("ballast")).unwrap();
        while ballast.write_all(&[1; 4096]).is_ok() {}
        std::fs::remove_file(kept_free).unwrap();
    }

    pub(crate) fn clear(&self) {
        std::fs::remove_file(self.path().join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.path()).status());
    }
}

/// A partition in `dir`, small enough for a test.
pub(crate) fn origin(dir: &Path) -> Partition {
    origin_of(dir, 16 << 20)
}

pub(crate) fn origin_of(dir: &Path, capacity_bytes: u64) -> Partition {
    origin_with(
        dir,
        PartitionOptions {
            capacity_bytes,
            ..PartitionOptions::default()
        },
    )
}

pub(crate) fn origin_with(dir: &Path, options: PartitionOptions) -> Partition {
    let options = PartitionOptions {
        linger: Duration::from_millis(1),
        ..options
    };
    Partition::open(dir, options, Box::new(NoOwner), system_clock())
        .unwrap()
        .0
}

/// Stages numbered records, `each` in one go, and waits until they are durable.
pub(crate) async fn stage(partition: &Partition, numbers: std::ops::Range<u64>, each: u64) {
    stage_sized(partition, numbers, each, 0).await;
}

/// As [`stage`], with `padding` more bytes in each key.
pub(crate) async fn stage_sized(
    partition: &Partition,
    numbers: std::ops::Range<u64>,
    each: u64,
    padding: usize,
) {
    let (mut producer, mut settled) = (partition.producer(), partition.settled());
    let (mut batch, mut ticket) = (Batch::new(), None);
    let key = vec![b'k'; padding];
    for number in numbers.clone() {
        batch.push(
            |unit| unit.record(None, Some(&key), &[], number.to_string().as_bytes()),
            &[],
        );
        if !(number + 1 - numbers.start).is_multiple_of(each) && number + 1 != numbers.end {
            continue;
        }
        loop {
            let room = producer.staged_room();
            match producer.stage(&batch) {
                Ok(staged) => {
                    ticket = Some(staged);
                    break;
                }
                Err(_) => room.await,
            }
        }
        batch.clear();
    }
    if let Some(ticket) = ticket {
        settled
            .wait_for(|settled| *settled >= ticket)
            .await
            .unwrap();
    }
}

/// The same, more than the log holds: it has lost its beginning, and lets go of nothing more until it gets more.
pub(crate) async fn stage_too_much(
    partition: &Partition,
    numbers: std::ops::Range<u64>,
    each: u64,
    padding: usize,
) {
    stage_sized(partition, numbers, each, padding).await;
    until("a segment is ready for the next roll", || async {
        let stats = partition.stats();
        (stats.segments_held < stats.segments).then_some(())
    })
    .await;
    assert!(partition.oldest().get() > 0, "nothing gave way");
}

pub(crate) fn options(url: &str) -> PullOptions {
    PullOptions {
        url: url.into(),
        stream: "telemetry".into(),
        start: Start::Earliest,
        follow: false,
        group: None,
        group_wait: Duration::ZERO,
        access: Access::default(),
    }
}

/// Everything that is there, each item as a word: `12` for a record with this value, `(from..to -lost cause)` for a gap.
pub(crate) async fn pull(options: PullOptions) -> Vec<String> {
    let mut reader = Reader::new(options);
    let mut said = Vec::new();
    while let Some(item) = timeout(LIMIT, reader.next())
        .await
        .expect("the reader ends")
        .unwrap()
    {
        said.push(word(&item));
    }
    said
}

pub(crate) async fn pull_all(url: &str) -> Vec<String> {
    pull(options(url)).await
}

pub(crate) fn word(item: &Item) -> String {
    match item {
        Item::Record(r) => String::from_utf8_lossy(&r.value).into_owned(),
        Item::Gap(g) => format!("({}..{} -{} {})", g.from, g.to, g.lost, g.cause),
    }
}

/// The values of the records among `pulled`.
pub(crate) fn records(pulled: &[String]) -> Vec<String> {
    pulled
        .iter()
        .filter(|word| !word.starts_with('('))
        .cloned()
        .collect()
}

/// The sum of what the gaps among `pulled` say is lost.
pub(crate) fn lost(pulled: &[String]) -> u64 {
    let of = |word: &String| {
        word.split_once(" -")?
            .1
            .split_once(' ')?
            .0
            .parse::<u64>()
            .ok()
    };
    pulled.iter().filter_map(of).sum()
}

/// Copies a directory as a backup would: what goes while it does, such as a file that takes its last name, is not in it.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            let copied = std::fs::copy(entry.path(), target);
            let is_gone = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
            assert!(copied.as_ref().err().is_none_or(is_gone), "{copied:?}");
        }
    }
}

pub(crate) fn numbers(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

/// Asks again until there is an answer.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) const LIMIT: Duration = Duration::from_secs(30);
pub(crate) const UPLINK: u32 = 1;
