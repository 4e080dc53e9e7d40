//! Drives Chromium through its DevTools protocol: JSON over a WebSocket, one command at a time.

#![allow(unreachable_pub)]

mod launch;
mod tab;

use std::{
    net::TcpStream,
    process::Child,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket};

pub use tab::Tab;

/// No command of a test takes longer, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running browser; it ends with this value.
pub struct Browser {
    child: Child,
    socket: WebSocket<TcpStream>,
    last_id: u64,
    /// What the browser told without being asked, not yet looked at.
    events: Vec<Value>,
    /// Its profile, kept until it has ended.
    _profile: TempDir,
}

impl Browser {
    /// Starts the browser that is installed; None if there is none.
    pub fn launch() -> Option<Self> {
        let program = launch::find()?;
        let profile = tempfile::tempdir().unwrap();
        let (child, socket) = launch::start(&program, profile.path());
        Some(Self { child, socket, last_id: 0, events: Vec::new(), _profile: profile })
    }

    /// Opens an empty tab.
    pub fn tab(&mut self) -> Tab<'_> {
        let target = self.call(None, "Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = self.call(None, "Target.attachToTarget", attach)["sessionId"].as_str().unwrap().to_owned();
        Tab::new(self, session)
    }

    /// Sends a command and returns its result.
    fn call(&mut self, session: Option<&str>, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let mut command = json!({"id": self.last_id, "method": method, "params": params});
        if let Some(session) = session {
            command["sessionId"] = session.into();
        }
        self.socket.send(Message::text(command.to_string())).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = self.receive(deadline, method);
            if message["id"] != self.last_id {
                self.events.push(message);
                continue;
            }
            assert!(message["error"].is_null(), "{method}: {}", message["error"]);
            return message["result"].clone();
        }
    }

    /// Waits for an event; those before it are kept.
    fn wait_for(&mut self, event: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.events.iter().any(|known| known["method"] == event) {
            let message = self.receive(deadline, event);
            self.events.push(message);
        }
    }

    fn receive(&mut self, deadline: Instant, what_for: &str) -> Value {
        loop {
            assert!(Instant::now() < deadline, "no answer to {what_for}");
            if let Message::Text(text) = self.socket.read().unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Asked to, it ends with all its children, which otherwise still write to the profile while that is removed.
        let close = json!({"id": self.last_id + 1, "method": "Browser.close"});
        let _ = self.socket.send(Message::text(close.to_string()));
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
