//! The pages of a hub, asked as anybody would with curl.
#![allow(dead_code, missing_docs, reason = "each story uses a part of it")]

use std::net::SocketAddr;

use sedge_uplink::hub::HubHandle;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::rig::{self, LIMIT, RunningForwarder, RunningHub, origin, stage};

/// The pages of a hub, on a port of their own.
pub(crate) struct Pages {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Pages {
    pub(crate) async fn of(hub: &HubHandle) -> Self {
        Self::at(hub.http()).await
    }

    pub(crate) async fn at(router: axum::Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, task }
    }

    pub(crate) async fn connect(&self, path: &str, headers: &[(&str, &str)]) -> TcpStream {
        self.send("GET", path, headers, "").await
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !body.is_empty() {
            text += &format!("Content-Length: {}\r\n", body.len());
        }
        if headers.iter().all(|(name, _)| *name != "Host") {
            text += "Host: localhost\r\n";
        }
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
        text += body;
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    pub(crate) async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask("GET", path, headers, "").await
    }

    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut stream = self.send(method, path, headers, body).await;
        let mut answer = Vec::new();
        timeout(LIMIT, stream.read_to_end(&mut answer))
            .await
            .expect("an answer")
            .unwrap();
        let head_len = answer.windows(4).position(|end| end == b"\r\n\r\n");
        let body = answer.split_off(head_len.expect("a head") + 4);
        let head = String::from_utf8(answer).unwrap();
        let mut lines = head.trim_end().lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_ascii_lowercase(), value.to_owned())
        };
        Answer {
            status: status.parse().unwrap(),
            headers: lines.map(header).collect(),
            body,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[]).await
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.maybe(name)
            .unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    pub(crate) fn maybe(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(has, _)| has == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub(crate) fn lines(&self) -> Vec<Value> {
        let line = |line: &str| serde_json::from_str(line).expect("a line is JSON");
        self.text().lines().map(line).collect()
    }

    /// The values of the records.
    pub(crate) fn values(&self) -> Vec<String> {
        values(&self.lines())
    }
}

pub(crate) fn values(lines: &[Value]) -> Vec<String> {
    let records = lines.iter().filter(|line| !line["value"].is_null());
    records.map(|line| line["value"].to_string()).collect()
}

/// A hub that has `0..count` of one gateway.
pub(crate) async fn filled(count: u64) -> (tempfile::TempDir, RunningHub, RunningForwarder, Pages) {
    let dir = tempfile::tempdir().unwrap();
    let partition = origin(&dir.path().join("gw"));
    stage(&partition, 0..count, 10).await;
    let hub = RunningHub::start(&dir.path().join("hub")).await;
    let gateway = RunningForwarder::start(&hub.url(), "gw-1", vec![rig::log(&partition)]);
    gateway.drained().await;
    let pages = Pages::of(&hub.handle).await;
    (dir, hub, gateway, pages)
}
