//! etcd's programs in memory: they answer as those of etcd 3.7 do, and can fail.

use super::store::testing::file;
use sheaf_host::run::{Command, Output, Run, RunError};
use std::fs;
use std::sync::Mutex;

/// An etcd with one member.
pub struct FakeEtcd {
    /// Bytes of its database.
    pub size: u64,
    /// Bytes of it that hold something.
    pub in_use: u64,
    /// What it sends as a snapshot.
    pub data: Vec<u8>,
    /// What `etcdctl alarm list` prints.
    pub alarms: &'static str,
    /// Number of members.
    pub members: usize,
    /// Version of the storage of snapshots.
    pub storage_version: &'static str,
    /// Words of commands that fail.
    pub failing: Mutex<Option<&'static str>>,
    /// What was asked of it so far.
    pub asked: Mutex<Vec<String>>,
}

impl Default for FakeEtcd {
    fn default() -> Self {
        Self {
            size: 4 << 20,
            in_use: 3 << 20,
            data: file(b"the cluster"),
            alarms: r#"{"header":{}}"#,
            members: 1,
            storage_version: "3.7.0",
            failing: Mutex::default(),
            asked: Mutex::default(),
        }
    }
}

impl FakeEtcd {
    /// Commands with `words` in them fail from now on.
    pub fn fail(&self, words: &'static str) {
        *self.failing.lock().unwrap() = Some(words);
    }

    /// All commands succeed again.
    pub fn recover(&self) {
        *self.failing.lock().unwrap() = None;
    }

    /// What was asked of it beyond how it is, as the last words of the commands.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Run for FakeEtcd {
    fn run(&self, command: &Command) -> Result<Output, RunError> {
        let text = command.to_string();
        let told = text.split(" --write-out=json ").last().unwrap_or_default();
        if self.failing.lock().unwrap().is_some_and(|words| text.contains(words)) {
            return Err(RunError::Failed {
                command: Box::new(command.clone()),
                ended: "exit status: 1".into(),
                code: Some(1),
                tail: "context deadline exceeded".into(),
            });
        }
        let last = command.args.last().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
        let print = |text: String| Ok(Output { stdout: text.into_bytes(), stderr: Vec::new() });
        let (size, in_use) = (self.size, self.in_use);
        match told {
            "endpoint status" => print(format!(
                r#"[{{"Status":{{"header":{{"cluster_id":1,"member_id":1,"revision":812}},"leader":1,"version":"3.7.0","dbSize":{size},"dbSizeInUse":{in_use}}}}}]"#
            )),
            "alarm list" => print(self.alarms.into()),
            "member list" => print(format!(r#"{{"members":[{}]}}"#, vec!["{}"; self.members].join(","))),
            "etcdutl version" => print("etcdutl version: 3.7.0\nAPI version: 3.7\n".into()),
            told if told.starts_with("snapshot status") => {
                print(format!(r#"{{"revision":810,"totalKey":300,"version":"{}"}}"#, self.storage_version))
            }
            told => {
                self.asked.lock().unwrap().push(told.into());
                if told.starts_with("snapshot save") {
                    fs::write(last, &self.data).unwrap();
                } else if told.starts_with("etcdutl snapshot restore") {
                    let into =
                        command.args.iter().find_map(|word| word.to_str()?.strip_prefix("--data-dir="));
                    let member = std::path::Path::new(into.unwrap()).join("member");
                    fs::create_dir_all(&member).unwrap();
                    fs::copy(&command.args[2], member.join("db")).unwrap();
                }
                Ok(Output::default())
            }
        }
    }
}
