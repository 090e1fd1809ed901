//! Stories of a client and a reader at a hub whose every answer the story gives itself, in simulated time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sedge_core::frame::{Form, Label, emit_data};
use sedge_core::{LogId, Micros, Offset, entry};
use serde::de::DeserializeOwned;
use tokio::join;
use tokio::time::{Instant, timeout};

use super::*;
use crate::net::tests::{Exchange, soon};
use crate::stream::Stream;
use crate::wire::{self, Fetched, FetchedHead, Message, PartHead, code};

/// A hub to which connections come.
struct Hub(Exchange);

impl Hub {
    fn new() -> Self {
        Self(Exchange::open())
    }

    /// The next connection, and what its consumer calls itself.
    async fn meets(&mut self) -> (Desk, String) {
        let mut desk = Desk(self.0.connection().await);
        let open: wire::Open = desk.hears().await;
        desk.says(&wire::Opened {
            chosen: wire::PROTOCOL,
            features: 0,
            message_bytes_max: wire::MESSAGE_BYTES_MAX as u32,
        })
        .await;
        (desk, open.name)
    }

    /// A client, and the hub's end of its connection.
    async fn client(&mut self) -> (Client, Desk) {
        let (client, (desk, name)) = join!(Client::connect(URL, "reader"), self.meets());
        assert_eq!(name, "reader");
        (client.unwrap(), desk)
    }

    /// The connection of a reader, which is told what partitions there are.
    async fn begins(&mut self, partitions: &[Partition]) -> Desk {
        let (mut desk, _) = self.meets().await;
        desk.lists(partitions).await;
        desk
    }
}

/// The hub's end of a connection.
struct Desk(Stream);

impl Desk {
    async fn hears<M: Message + DeserializeOwned>(&mut self) -> M {
        let heard = soon(self.0.receive()).await.unwrap();
        assert_eq!(heard.kind, M::KIND);
        wire::parse(&heard.body).unwrap()
    }

    async fn says<M: Message>(&mut self, message: &M) {
        self.0.push(message);
        self.0.flush().await.unwrap();
    }

    async fn lists(&mut self, partitions: &[Partition]) {
        let list: wire::List = self.hears().await;
        assert_eq!(list.stream.as_deref(), Some("telemetry"));
        self.says(&listed(list.request, partitions, false)).await;
    }

    /// Answers the next Fetch with parts, each of them records from an offset up to another; gives back what was wanted.
    async fn serves(&mut self, runs: u32, parts: &[(u32, u64, u64)]) -> wire::Fetch {
        let fetch: wire::Fetch = self.hears().await;
        self.fetched(fetch.request, runs, parts).await;
        fetch
    }

    async fn fetched(&mut self, request: u32, runs: u32, parts: &[(u32, u64, u64)]) {
        let frames: Vec<Bytes> = parts
            .iter()
            .map(|(_, from, to)| records(*from, *to))
            .collect();
        let heads = parts.iter().zip(&frames);
        let head = FetchedHead {
            request,
            runs,
            parts: heads.map(|(part, frames)| head(*part, frames)).collect(),
        };
        let mut message = BytesMut::new();
        wire::emit_fetched(&mut message, &head, &frames);
        self.0.outgoing.extend_from_slice(&message);
        self.0.flush().await.unwrap();
    }

    async fn fails(&mut self, request: u32, code: u16) {
        let reason = "a reason".into();
        self.says(&wire::Failed {
            request,
            code,
            reason,
        })
        .await;
    }
}

fn listed(request: u32, partitions: &[Partition], more: bool) -> wire::Listed {
    let partitions = partitions.to_vec();
    wire::Listed {
        request,
        partitions,
        more,
    }
}

fn partition(number: u32, end: u64) -> Partition {
    Partition {
        number,
        stream: "telemetry".into(),
        gateway: format!("gw-{number}"),
        partition: 0,
        epoch: 0,
        earliest: 0,
        end,
        ahead: Vec::new(),
    }
}

fn mark(partitions: &[Partition]) -> u32 {
    wire::mark(partitions.iter().flat_map(Partition::runs))
}

const LOG: LogId = LogId::new([7; 16]);

/// Frames of one record each, whose values are their offsets.
fn records(from: u64, to: u64) -> Bytes {
    let frame = |offset: u64| {
        let label = Label {
            form: Form::Explicit,
            first: Offset::new(offset),
            time: Micros::new(1_000),
            first_of_commit: true,
        };
        let value = offset.to_string();
        let record = entry::Record {
            value: value.as_bytes(),
            ..Default::default()
        };
        let (mut entry, mut frame) = ([0; 64], [0; 128]);
        let len = entry::Entry::Record(record).encode(&mut entry).unwrap();
        let len = emit_data(&mut frame, &LOG, label, 1, &[], &entry[..len]).unwrap();
        frame[..len].to_vec()
    };
    (from..to).flat_map(frame).collect::<Vec<u8>>().into()
}

fn head((number, from, next): (u32, u64, u64), frames: &Bytes) -> PartHead {
    PartHead {
        number,
        log_id: *LOG.as_bytes(),
        epoch: 0,
        shift: 0,
        from,
        next,
        earliest: 0,
        end: next,
        gaps: Vec::new(),
        frames_len: frames.len() as u32,
        beginnings: Vec::new(),
    }
}

fn options() -> PullOptions {
    PullOptions {
        url: URL.into(),
        stream: "telemetry".into(),
        start: Start::Earliest,
        follow: false,
        group: None,
        group_wait: Duration::ZERO,
        access: Access::default(),
    }
}

fn follower() -> Reader {
    Reader::new(PullOptions {
        follow: true,
        ..options()
    })
}

fn member(follow: bool) -> Reader {
    Reader::new(PullOptions {
        follow,
        group: Some(("billing".into(), "m1".into())),
        group_wait: Duration::from_secs(7),
        ..options()
    })
}

fn membership() -> Membership {
    Membership {
        group: "billing".into(),
        stream: "telemetry".into(),
        member: "m1".into(),
    }
}

fn place(number: u32, next: u64) -> Place {
    Place {
        number,
        first: 0,
        next,
    }
}

/// Partition and offset of what the reader gives next, `None` at its end.
async fn next(reader: &mut Reader) -> Option<(u32, u64)> {
    let item = soon(reader.next()).await.unwrap()?;
    Some((item.origin().number, item.first()))
}

/// Whoever asks may stop waiting; the hub answers all the same, and then fails another question that nobody waits for.
#[tokio::test(start_paused = true)]
async fn the_answer_to_a_question_that_was_given_up_is_not_that_to_the_next() {
    let mut hub = Hub::new();
    let (mut client, mut desk) = hub.client().await;
    let mut given_up = Vec::new();
    for _ in 0..2 {
        let patience = Duration::from_millis(10);
        assert!(timeout(patience, client.list(None)).await.is_err());
        given_up.push(desk.hears::<wire::List>().await.request);
    }
    let answers = async {
        let asked: wire::List = desk.hears().await;
        desk.says(&listed(given_up[0], &[partition(1, 10)], false))
            .await;
        desk.fails(given_up[1], code::INTERNAL).await;
        desk.says(&listed(asked.request, &[partition(2, 20)], false))
            .await;
    };
    let (listed, ()) = join!(soon(client.list(None)), answers);
    assert_eq!(listed.unwrap(), [partition(2, 20)]);
    let known = timeout(Duration::from_millis(10), fetch(&mut client)).await;
    assert!(known.is_err());
    let given_up: wire::Fetch = desk.hears().await;
    let answers = async {
        let asked: wire::Fetch = desk.hears().await;
        desk.fetched(given_up.request, 7, &[(0, 0, 1)]).await;
        desk.fetched(asked.request, 8, &[]).await;
    };
    let (fetched, ()) = join!(soon(fetch(&mut client)), answers);
    assert_eq!(fetched.unwrap().runs, 8);
}

async fn fetch(client: &mut Client) -> Result<Fetched, ClientError> {
    let wait = Duration::from_secs(4);
    client.fetch("telemetry", 0, Vec::new(), wait).await
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_into_one_answer_is_asked_for_from_where_it_ended() {
    let mut hub = Hub::new();
    let (mut client, mut desk) = hub.client().await;
    let partitions: Vec<_> = (0..5).map(|n| partition(n, 10)).collect();
    for stalls in [false, true] {
        let pages = async {
            let mut after = None;
            for page in [0..2, 2..4, 4..5] {
                let list: wire::List = desk.hears().await;
                assert_eq!(list.after, after);
                let last = page.end - 1;
                after = Some(("telemetry".into(), last as u32));
                let more = stalls || last != 4;
                desk.says(&listed(list.request, &partitions[page], more))
                    .await;
            }
            // A hub that says that there is more, and has none.
            if stalls {
                let list: wire::List = desk.hears().await;
                desk.says(&listed(list.request, &[], true)).await;
            }
        };
        let (listed, ()) = join!(soon(client.list(Some("telemetry"))), pages);
        assert_eq!(listed.unwrap(), partitions);
    }
}

/// A large answer on a slow link takes longer than patience does for one of which nothing comes.
#[tokio::test(start_paused = true)]
async fn an_answer_is_waited_for_as_long_as_more_of_it_comes() {
    let mut hub = Hub::new();
    let (mut client, mut desk) = hub.client().await;
    let slowly = async {
        let list: wire::List = desk.hears().await;
        desk.0
            .push(&listed(list.request, &[partition(0, 10)], false));
        let answer = std::mem::take(&mut desk.0.outgoing);
        for byte in answer.chunks(1) {
            desk.0.outgoing.extend_from_slice(byte);
            desk.0.flush().await.unwrap();
            tokio::time::sleep(Duration::from_secs(19)).await;
        }
    };
    let (listed, ()) = join!(client.list(Some("telemetry")), slowly);
    assert_eq!(listed.unwrap(), [partition(0, 10)]);
}

/// How long each question waits for a hub that takes it and says nothing more.
#[tokio::test(start_paused = true)]
async fn a_hub_that_does_not_answer_is_silent_after_what_it_was_given_and_twenty_seconds() {
    let mut hub = Hub::new();
    let (mut client, _desk) = hub.client().await;
    let minute = Duration::from_secs(60);
    macro_rules! silent_after {
        ($asked:expr) => {{
            let began = Instant::now();
            let answer = soon($asked).await.map(|_| ());
            assert!(matches!(answer, Err(ClientError::Silent)), "{answer:?}");
            began.elapsed().as_secs()
        }};
    }
    let m = membership();
    assert_eq!(silent_after!(client.list(None)), 20);
    assert_eq!(silent_after!(client.offset_for_time("telemetry", 1)), 20);
    assert_eq!(silent_after!(client.commit(&m, 1, Vec::new())), 20);
    assert_eq!(silent_after!(client.leave(&m, 1)), 20);
    assert_eq!(silent_after!(client.join(&m, None, minute)), 80);
    let wait = 3 * minute;
    assert_eq!(
        silent_after!(client.fetch("telemetry", 0, Vec::new(), wait)),
        200
    );
    hub.0.answers(false);
    let gone = Client::connect(URL, "reader").await.map(|_| ());
    assert!(matches!(gone, Err(ClientError::Io(_))), "{gone:?}");
}

/// A ping is answered while an answer is waited for, and the answer to one is not; what is not known is skipped.
#[tokio::test(start_paused = true)]
async fn a_client_that_waits_says_that_it_is_there() {
    let mut hub = Hub::new();
    let (mut client, mut desk) = hub.client().await;
    let ping = |token, reply| wire::Ping { token, reply };
    let pings = async {
        let list: wire::List = desk.hears().await;
        desk.says(&ping(4, true)).await;
        wire::emit_raw(&mut desk.0.outgoing, 0x7F, &[b"of a later version"]);
        desk.says(&ping(5, false)).await;
        assert_eq!(desk.hears::<wire::Ping>().await, ping(5, true));
        desk.says(&listed(list.request, &[], false)).await;
    };
    let (answer, ()) = join!(soon(client.list(None)), pings);
    assert_eq!(answer.unwrap(), []);
    let more = timeout(Duration::from_secs(1), desk.0.receive()).await;
    assert!(more.is_err(), "the answer to a ping is answered: {more:?}");
}

#[tokio::test(start_paused = true)]
async fn each_failure_is_told_as_what_it_is() {
    let mut hub = Hub::new();
    let (mut client, mut desk) = hub.client().await;
    for (code, told) in [
        (code::HELD, "the group is held by a reason"),
        (code::FENCED, "a newer member has taken the group over"),
        (code::UNKNOWN, "the hub answers: a reason"),
    ] {
        let fails = async {
            let list: wire::List = desk.hears().await;
            desk.fails(list.request, code).await;
        };
        let (answer, ()) = join!(soon(client.list(None)), fails);
        assert_eq!(answer.unwrap_err().to_string(), told);
    }
    let bye = wire::Bye {
        code: wire::bye::BUSY,
        reason: "too many".into(),
    };
    desk.says(&bye).await;
    let answer = soon(client.list(None)).await.unwrap_err();
    let told = "the hub ended the connection: too many";
    assert_eq!(answer.to_string(), told);
}

#[tokio::test(start_paused = true)]
async fn a_hub_of_another_version_is_none() {
    let mut hub = Hub::new();
    let answers = async {
        let mut desk = Desk(hub.0.connection().await);
        let open: wire::Open = desk.hears().await;
        assert_eq!((open.protocol_min, open.protocol_max), (1, 1));
        let (chosen, features, message_bytes_max) = (2, 0, 1 << 20);
        desk.says(&wire::Opened {
            chosen,
            features,
            message_bytes_max,
        })
        .await;
        desk
    };
    let (client, _desk) = join!(soon(Client::connect(URL, "reader")), answers);
    assert!(matches!(client.map(|_| ()), Err(ClientError::Malformed)));
}

/// It says so at once, and so does a hub that ends the conversation in the middle; a follower tries until there is one.
#[tokio::test(start_paused = true)]
async fn a_reader_without_a_hub_says_so_and_a_follower_waits_for_one() {
    let mut hub = Hub::new();
    let partitions = [partition(0, 2)];
    let mut reader = Reader::new(options());
    let hangs_up = async {
        let mut desk = hub.begins(&partitions).await;
        let _asked: wire::Fetch = desk.hears().await;
    };
    let (lost, ()) = join!(soon(reader.next()), hangs_up);
    assert!(matches!(lost, Err(PullError::Hub(ClientError::Closed))));
    hub.0.answers(false);
    let nobody = soon(Reader::new(options()).next()).await;
    assert!(matches!(nobody, Err(PullError::Hub(ClientError::Io(_)))));

    let mut reader = follower();
    assert!(timeout(HOUR, reader.next()).await.is_err());
    hub.0.answers(true);
    let serves = async {
        let mut desk = hub.begins(&partitions).await;
        desk.serves(mark(&partitions), &[(0, 0, 1)]).await;
        drop(desk);
        let mut desk = hub.begins(&partitions).await;
        let fetch = desk.serves(mark(&partitions), &[(0, 1, 2)]).await;
        assert_eq!(fetch.wants[0].from, 1, "it goes on where it is");
        desk
    };
    let reads = async { [next(&mut reader).await, next(&mut reader).await] };
    let (read, _desk) = join!(reads, serves);
    assert_eq!(read, [Some((0, 0)), Some((0, 1))]);
}

/// A hub that means what it says is not asked again, not by a follower either.
#[tokio::test(start_paused = true)]
async fn a_follower_that_may_not_read_ends() {
    let mut hub = Hub::new();
    let mut reader = follower();
    let fails = async {
        let (mut desk, _) = hub.meets().await;
        let list: wire::List = desk.hears().await;
        desk.fails(list.request, code::NOT_ALLOWED).await;
        desk
    };
    let (ended, _desk) = join!(soon(reader.next()), fails);
    let told = ended.unwrap_err().to_string();
    assert_eq!(told, "the hub answers: a reason");
}

/// What is asked for: each partition from where the reader is, those first that were left out, none at its end, and no waiting for what is to come.
#[tokio::test(start_paused = true)]
async fn a_reader_asks_for_what_was_there_at_its_start_in_turn() {
    let mut hub = Hub::new();
    let partitions: Vec<_> = (0..3).map(|n| partition(n, 2)).collect();
    let known = mark(&partitions);
    let mut reader = Reader::new(options());
    let serves = async {
        let mut desk = hub.begins(&partitions).await;
        let mut asked = Vec::new();
        for parts in [
            &[(0, 0, 1), (1, 0, 2)][..],
            &[(2, 0, 2)],
            // More has come meanwhile.
            &[(0, 1, 3)],
        ] {
            let fetch = desk.serves(known, parts).await;
            assert_eq!((fetch.wait_ms, fetch.known), (1_000, known));
            let wants = fetch.wants.iter().map(|want| (want.number, want.from));
            asked.push(wants.collect::<Vec<_>>());
        }
        (desk, asked)
    };
    let reads = async {
        let mut read = Vec::new();
        while let Some(item) = next(&mut reader).await {
            read.push(item);
        }
        read
    };
    let (read, (mut desk, asked)) = join!(reads, serves);
    let turns = [
        vec![(0, 0), (1, 0), (2, 0)],
        vec![(2, 0), (0, 1)],
        vec![(0, 1)],
    ];
    assert_eq!(asked, turns);
    assert_eq!(read, [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (0, 1)]);
    let more = timeout(Duration::from_secs(9), desk.0.receive()).await;
    assert!(more.is_err(), "at its end it asks for nothing");
}

/// The hub has other runs than the reader knows: a follower lists them and reads what is new from its beginning, at whatever place it began itself.
#[tokio::test(start_paused = true)]
async fn a_follower_meets_a_partition_that_joins_from_its_beginning() {
    let mut hub = Hub::new();
    let (one, both) = ([partition(0, 5)], [partition(0, 5), partition(1, 3)]);
    let mut reader = Reader::new(PullOptions {
        follow: true,
        start: Start::Latest,
        ..options()
    });
    let serves = async {
        let mut desk = hub.begins(&one).await;
        let fetch = desk.serves(mark(&one), &[]).await;
        assert_eq!((fetch.wait_ms, fetch.known), (4_000, mark(&one)));
        desk.serves(mark(&both), &[]).await;
        desk.lists(&both).await;
        let fetch = desk.serves(mark(&both), &[(1, 0, 1)]).await;
        let wants = fetch.wants.iter().map(|want| (want.number, want.from));
        assert_eq!(wants.collect::<Vec<_>>(), [(0, 5), (1, 0)]);
        assert_eq!(fetch.known, mark(&both));
        desk
    };
    let (read, _desk) = join!(next(&mut reader), serves);
    assert_eq!(read, Some((1, 0)));
}

/// A time is looked up once, at the start: what joins later is newer.
#[tokio::test(start_paused = true)]
async fn a_reader_that_begins_at_a_time_asks_where_that_is() {
    let mut hub = Hub::new();
    let mut reader = Reader::new(PullOptions {
        follow: true,
        start: Start::Time(77),
        ..options()
    });
    let one = [partition(0, 9)];
    let serves = async {
        let (mut desk, _) = hub.meets().await;
        let find: wire::Find = desk.hears().await;
        assert_eq!((find.time, find.stream.as_str()), (77, "telemetry"));
        let (request, places) = (find.request, vec![place(0, 6)]);
        desk.says(&wire::Found { request, places }).await;
        desk.lists(&one).await;
        desk.serves(mark(&one) + 1, &[(0, 6, 7)]).await;
        desk.lists(&one).await;
        desk
    };
    let (read, _desk) = join!(next(&mut reader), serves);
    assert_eq!(read, Some((0, 6)));
}

impl Desk {
    /// A member joins, and is told where its group stands.
    async fn joins(&mut self, generation: u64, places: &[Place]) -> wire::Join {
        let join: wire::Join = self.hears().await;
        let joined = wire::Joined {
            request: join.request,
            generation,
            lease_ms: 12_000,
            places: places.to_vec(),
        };
        self.says(&joined).await;
        join
    }

    async fn commits(&mut self) -> (u64, Vec<Place>) {
        let commit: wire::Commit = self.hears().await;
        let request = commit.request;
        self.says(&wire::Done { request }).await;
        (commit.generation, commit.places)
    }
}

/// A stream of more partitions than one request names: those of the first are idle, and the others are read nonetheless, and committed in as many requests.
#[tokio::test(start_paused = true)]
async fn a_stream_of_very_many_partitions_is_asked_for_in_turn() {
    const MANY: u32 = 4_500;
    let mut hub = Hub::new();
    let mut reader = member(true);
    let all: Vec<_> = (0..MANY).map(|n| partition(n, 1)).collect();
    let numbers = |fetch: &wire::Fetch| {
        let numbers = fetch.wants.iter().map(|want| want.number);
        let numbers: Vec<u32> = numbers.collect();
        (numbers[0], *numbers.last().unwrap())
    };
    let serve = async {
        let (mut desk, _) = hub.meets().await;
        desk.joins(1, &[]).await;
        // Where the group has been, and then what there is.
        desk.lists(&all).await;
        desk.lists(&all).await;
        let runs = mark(&all);
        assert_eq!(numbers(&desk.serves(runs, &[]).await), (0, 1_999));
        let parts: Vec<_> = (2_000..MANY).map(|number| (number, 0, 1)).collect();
        let (some, rest) = parts.split_at(2_000);
        assert_eq!(numbers(&desk.serves(runs, some).await), (2_000, 3_999));
        assert_eq!(numbers(&desk.serves(runs, rest).await).0, 4_000);
        let mut committed = 0;
        while committed < MANY as usize {
            let (_, places) = desk.commits().await;
            assert!((1..=2_000).contains(&places.len()));
            committed += places.len();
        }
        committed
    };
    let read = async {
        for _ in 2_000..MANY {
            reader.next().await.unwrap();
        }
        reader.flushed().await.unwrap();
    };
    let (committed, ()) = soon(async { join!(serve, read) }).await;
    assert_eq!(committed, MANY as usize);
}

/// What was given is committed when it is flushed, once. In a long silence the lease is renewed when a third of it has passed, and not before.
#[tokio::test(start_paused = true)]
async fn a_member_commits_what_was_flushed_and_renews_its_lease_in_time() {
    let mut hub = Hub::new();
    let one = [partition(0, 5)];
    let mut reader = member(true);
    let begins = async {
        let (mut desk, name) = hub.meets().await;
        assert_eq!(name, "m1");
        let join = desk.joins(3, &[place(0, 2)]).await;
        assert_eq!((join.generation, join.wait_ms), (None, 7_000));
        desk.lists(&one).await;
        desk.lists(&one).await;
        let fetch = desk.serves(mark(&one), &[(0, 2, 4)]).await;
        assert_eq!(fetch.wants[0].from, 2);
        desk
    };
    let (read, mut desk) = join!(next(&mut reader), begins);
    assert_eq!(read, Some((0, 2)));
    let (flushed, committed) = join!(soon(reader.flushed()), desk.commits());
    flushed.unwrap();
    assert_eq!(committed, (3, vec![place(0, 3)]));
    soon(reader.flushed()).await.unwrap();
    assert_eq!(next(&mut reader).await, Some((0, 3)));
    let (flushed, committed) = join!(soon(reader.flushed()), desk.commits());
    flushed.unwrap();
    assert_eq!(committed, (3, vec![place(0, 4)]));

    // Each answer takes a third of the lease.
    let silence = async {
        for renews in [false, false, true, false] {
            if renews {
                assert_eq!(desk.commits().await, (3, Vec::new()));
            }
            let fetch: wire::Fetch = desk.hears().await;
            tokio::time::sleep(Duration::from_millis(fetch.wait_ms.into())).await;
            desk.fetched(fetch.request, mark(&one), &[]).await;
        }
        assert_eq!(desk.commits().await, (3, Vec::new()));
        desk.serves(mark(&one), &[(0, 4, 5)]).await;
        desk
    };
    let (read, mut desk) = join!(next(&mut reader), silence);
    assert_eq!(read, Some((0, 4)));
    let leaves = async {
        let leave: wire::Leave = desk.hears().await;
        let request = leave.request;
        desk.says(&wire::Done { request }).await;
        leave.generation
    };
    let (left, generation) = join!(soon(reader.leave()), leaves);
    left.unwrap();
    assert_eq!(generation, 3);
}

/// It comes back with its own lease and goes on where it is. Was another one active meanwhile, it begins where that one was.
#[tokio::test(start_paused = true)]
async fn a_member_that_comes_back_goes_on_unless_another_was_active() {
    let mut hub = Hub::new();
    let one = [partition(0, 9)];
    let mut reader = member(true);
    let serves = async {
        let (mut desk, _) = hub.meets().await;
        desk.joins(3, &[]).await;
        desk.lists(&one).await;
        desk.lists(&one).await;
        desk.serves(mark(&one), &[(0, 0, 1)]).await;
        drop(desk);
        let (mut desk, _) = hub.meets().await;
        let join = desk.joins(4, &[place(0, 7)]).await;
        assert_eq!(join.generation, Some(3));
        desk.lists(&one).await;
        let fetch = desk.serves(mark(&one), &[(0, 1, 2)]).await;
        assert_eq!(fetch.wants[0].from, 1);
        drop(desk);
        let (mut desk, _) = hub.meets().await;
        let join = desk.joins(6, &[place(0, 7)]).await;
        assert_eq!(join.generation, Some(4));
        desk.lists(&one).await;
        desk.lists(&one).await;
        let fetch = desk.serves(mark(&one), &[(0, 7, 8)]).await;
        assert_eq!(fetch.wants[0].from, 7);
        desk
    };
    let reads = async {
        let mut read = Vec::new();
        for _ in 0..3 {
            read.extend(next(&mut reader).await);
        }
        read
    };
    let (read, _desk) = join!(reads, serves);
    assert_eq!(read, [(0, 0), (0, 1), (0, 7)]);
}

/// The connection is lost while a commit waits for its answer: a follower commits again on the next one, who does not follow says so.
#[tokio::test(start_paused = true)]
async fn a_commit_whose_answer_is_lost_is_made_again_by_a_follower_alone() {
    for follow in [true, false] {
        let mut hub = Hub::new();
        let one = [partition(0, 9)];
        let mut reader = member(follow);
        let begins = async {
            let (mut desk, _) = hub.meets().await;
            desk.joins(3, &[]).await;
            desk.lists(&one).await;
            desk.lists(&one).await;
            desk.serves(mark(&one), &[(0, 0, 1)]).await;
            desk
        };
        let (_, mut desk) = join!(next(&mut reader), begins);
        let serves = async {
            let _unanswered: wire::Commit = desk.hears().await;
            drop(desk);
            if !follow {
                return None;
            }
            let (mut desk, _) = hub.meets().await;
            desk.joins(4, &[]).await;
            desk.lists(&one).await;
            Some(desk.commits().await)
        };
        let (flushed, committed) = join!(soon(reader.flushed()), serves);
        assert_eq!(flushed.is_ok(), follow, "{flushed:?}");
        let again = (4, vec![place(0, 1)]);
        assert_eq!(committed, follow.then_some(again));
    }
}

const URL: &str = "sedge://hub.example:7443";
const HOUR: Duration = Duration::from_secs(3_600);
