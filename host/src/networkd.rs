//! systemd-networkd over D-Bus: told that its files changed, asked whether it is through.
//!
//! Why here: D-Bus is an effect. Route in: files that the caller wrote into /run/systemd/network. Route out: networkd
//! follows them; an error names what was asked. Devices that it made stay when their files go: see [`crate::run`].

use std::future::Future;
use std::pin::Pin;
use zbus::OwnedObjectPath;

/// A future of a [`Networkd`] method.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, NetworkdError>> + Send + 'a>>;

/// networkd could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("systemd-networkd cannot {what}; read `journalctl -u systemd-networkd`")]
pub struct NetworkdError {
    what: String,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl NetworkdError {
    /// `what` had no answer.
    pub fn new(what: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { what: what.into(), source: source.into() }
    }
}

/// Something that configures links by files: [`System`], or [`crate::fakes::FakeNetworkd`] in tests.
pub trait Networkd: Send + Sync {
    /// Reads its files again: makes devices that are missing, configures links whose files changed.
    fn reload(&self) -> Answer<'_, ()>;
    /// Configures `link` again, whether its files changed or not; does nothing when there is no such link.
    fn reconfigure<'a>(&'a self, link: &'a str) -> Answer<'a, ()>;
    /// Whether it has processed a link with this name, or alternative name.
    fn knows<'a>(&'a self, name: &'a str) -> Answer<'a, bool>;
    /// Links that it still works on.
    fn unsettled(&self) -> Answer<'_, Vec<String>>;
}

/// The D-Bus error of a link that networkd does not know: resolved's, since systemd has one for both.
const NO_SUCH_LINK: &str = "org.freedesktop.resolve1.NoSuchLink";

/// networkd of the machine.
#[derive(Clone, Debug)]
pub struct System {
    bus: zbus::Connection,
}

#[zbus::proxy(
    interface = "org.freedesktop.network1.Manager",
    default_service = "org.freedesktop.network1",
    default_path = "/org/freedesktop/network1"
)]
trait Manager {
    fn reload(&self) -> zbus::Result<()>;
    fn reconfigure_link(&self, index: i32) -> zbus::Result<()>;
    fn list_links(&self) -> zbus::Result<Vec<(i32, String, OwnedObjectPath)>>;
    fn get_link_by_name(&self, name: &str) -> zbus::Result<(i32, OwnedObjectPath)>;
}

#[zbus::proxy(interface = "org.freedesktop.network1.Link", default_service = "org.freedesktop.network1")]
trait Link {
    #[zbus(property(emits_changed_signal = "false"))]
    fn administrative_state(&self) -> zbus::Result<String>;
}

impl System {
    /// Connects to the system bus.
    pub async fn connect() -> Result<Self, zbus::Error> {
        Ok(Self { bus: zbus::Connection::system().await? })
    }

    async fn manager(&self) -> zbus::Result<ManagerProxy<'_>> {
        ManagerProxy::new(&self.bus).await
    }
}

impl Networkd for System {
    fn reload(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            let reload = async || self.manager().await?.reload().await;
            reload().await.map_err(|error| NetworkdError::new("reload its files", error))
        })
    }

    fn reconfigure<'a>(&'a self, link: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let file = format!("/sys/class/net/{link}/ifindex");
            let index = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok());
            let Some(index) = index else { return Ok(()) };
            let reconfigure = async || self.manager().await?.reconfigure_link(index).await;
            reconfigure().await.map_err(|error| NetworkdError::new(format!("reconfigure {link}"), error))
        })
    }

    fn knows<'a>(&'a self, name: &'a str) -> Answer<'a, bool> {
        Box::pin(async move {
            let ask = async || self.manager().await?.get_link_by_name(name).await;
            match ask().await {
                Ok(_) => Ok(true),
                Err(zbus::Error::MethodError(error, ..)) if error.as_str() == NO_SUCH_LINK => Ok(false),
                Err(error) => Err(NetworkdError::new(format!("find {name}"), error)),
            }
        })
    }

    fn unsettled(&self) -> Answer<'_, Vec<String>> {
        Box::pin(async move {
            let look = async || -> zbus::Result<Vec<String>> {
                let mut unsettled = Vec::new();
                for (_, name, path) in self.manager().await?.list_links().await? {
                    let link = LinkProxy::builder(&self.bus).path(path).build().await?;
                    // A link that went away meanwhile has no state.
                    let state = link.administrative_state().await.unwrap_or_default();
                    if ["pending", "initialized", "configuring"].contains(&state.as_str()) {
                        unsettled.push(name);
                    }
                }
                Ok(unsettled)
            };
            look().await.map_err(|error| NetworkdError::new("report the state of its links", error))
        })
    }
}
