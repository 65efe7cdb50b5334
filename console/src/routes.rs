//! What a request asks for.
//!
//! Why here: pure, so that the whole table is tested. What the console does itself is below `/console/`, what it hands on below
//! `/api/`; everything else is a file of the page. Route in: method, path, query. Route out: a [`Route`] or a refusal.

use http::Method;

use crate::{
    answer::Refusal,
    download::{Format, Wanted},
    metrics,
    proxy::{self, Target, is_name, is_subdomain},
    upload::Volume,
};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Whether the program is ready.
    Healthz,
    /// A file of the page.
    Asset(String),
    /// Who am I?
    Session,
    /// A password.
    Login,
    /// Whether there is an identity provider.
    Sso,
    /// Another one.
    ConfigureSso,
    /// To it.
    SsoBegin,
    /// Back from it; the query.
    SsoCallback(String),
    /// The end of the session.
    Logout,
    /// A change of the own password.
    Password,
    /// Own tokens.
    Tokens,
    /// A new token.
    NewToken,
    /// The end of a token.
    DeleteToken(String),
    /// All users.
    Users,
    /// A new user.
    NewUser,
    /// A change of a user.
    ChangeUser(String),
    /// The end of a user.
    DeleteUser(String),
    /// Whether the own login asks for a code.
    Second,
    /// A new secret for codes.
    BeginSecond,
    /// A code that confirms it.
    ConfirmSecond,
    /// The end of the own second factor.
    RemoveSecond,
    /// The end of another's, who has lost it.
    RemoveSecondOf(String),
    /// Whether the cluster waits for its first administrator.
    IsClaimable,
    /// The first administrator.
    Claim,
    /// The key of an administrator who has no browser.
    ClaimByKey,
    /// What one more node joins with.
    JoinToken,
    /// An image into a volume.
    Upload(Volume),
    /// A disk, to keep.
    Download(Wanted),
    /// The stream of changes.
    Watch(Vec<String>),
    /// What a machine, a node or the cluster used.
    Metrics(metrics::Query),
    /// To the API server.
    Api(Target),
}

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Public,
    /// Who has logged in or has a token.
    User,
    /// Who has logged in: what one token must not do to the others.
    Person,
}

impl Route {
    /// Who may ask for it.
    pub fn access(&self) -> Access {
        match self {
            Self::Healthz
            | Self::Asset(_)
            | Self::Login
            | Self::Sso
            | Self::SsoBegin
            | Self::SsoCallback(_)
            | Self::IsClaimable
            | Self::Claim
            | Self::ClaimByKey => Access::Public,
            Self::Session | Self::Watch(_) | Self::Metrics(_) | Self::Api(_) => Access::User,
            Self::Logout
            | Self::Password
            | Self::Tokens
            | Self::NewToken
            | Self::DeleteToken(_)
            | Self::Users
            | Self::NewUser
            | Self::ChangeUser(_)
            | Self::DeleteUser(_)
            | Self::Second
            | Self::BeginSecond
            | Self::ConfirmSecond
            | Self::RemoveSecond
            | Self::RemoveSecondOf(_)
            | Self::ConfigureSso
            | Self::JoinToken
            | Self::Upload(_)
            | Self::Download(_) => Access::Person,
        }
    }

    /// Whether it is a WebSocket.
    pub fn is_stream(&self) -> bool {
        matches!(self, Self::Api(target) if target.is_stream)
    }

    /// Whether pages of other sites cause it: the identity provider sends people back. What came with them is compared with what
    /// this browser kept.
    pub fn is_from_elsewhere(&self) -> bool {
        matches!(self, Self::SsoCallback(_))
    }

    /// Whether a person does it: a page that is left open asks for the others by itself.
    pub fn is_use(&self) -> bool {
        !matches!(self, Self::Session | Self::Watch(_) | Self::Metrics(_) | Self::Asset(_))
    }
}

/// The route of a request.
pub fn route(method: &Method, path: &str, query: Option<&str>) -> Result<Route, Refusal> {
    if let Some(rest) = path.strip_prefix(proxy::PREFIX).filter(|rest| rest.starts_with('/')) {
        return proxy::target(method, rest, query).map(Route::Api);
    }
    let Some(own) = path.strip_prefix("/console/") else {
        return match (path, method) {
            ("/healthz", &Method::GET) => Ok(Route::Healthz),
            (_, &Method::GET | &Method::HEAD) => Ok(Route::Asset(path.to_owned())),
            _ => Err(Refusal::method(format!("{method} {path} is not possible"))),
        };
    };
    let words: Vec<&str> = own.split('/').collect();
    let found = match (words.as_slice(), method) {
        (["session"], &Method::GET) => Route::Session,
        (["login"], &Method::POST) => Route::Login,
        (["sso"], &Method::GET) => Route::Sso,
        (["sso"], &Method::PUT) => Route::ConfigureSso,
        (["sso", "begin"], &Method::GET) => Route::SsoBegin,
        (["sso", "callback"], &Method::GET) => Route::SsoCallback(query.unwrap_or_default().to_owned()),
        (["logout"], &Method::POST) => Route::Logout,
        (["password"], &Method::POST) => Route::Password,
        (["tokens"], &Method::GET) => Route::Tokens,
        (["tokens"], &Method::POST) => Route::NewToken,
        (["tokens", id], &Method::DELETE) => Route::DeleteToken((*id).to_owned()),
        (["users"], &Method::GET) => Route::Users,
        (["users"], &Method::POST) => Route::NewUser,
        (["users", name], &Method::PATCH) => Route::ChangeUser((*name).to_owned()),
        (["users", name], &Method::DELETE) => Route::DeleteUser((*name).to_owned()),
        (["users", name, "second"], &Method::DELETE) => Route::RemoveSecondOf((*name).to_owned()),
        (["second"], &Method::GET) => Route::Second,
        (["second"], &Method::POST) => Route::BeginSecond,
        (["second", "confirm"], &Method::POST) => Route::ConfirmSecond,
        (["second", "remove"], &Method::POST) => Route::RemoveSecond,
        (["claim"], &Method::GET) => Route::IsClaimable,
        (["claim"], &Method::POST) => Route::Claim,
        (["claim", "key"], &Method::POST) => Route::ClaimByKey,
        (["join-tokens"], &Method::POST) => Route::JoinToken,
        (["metrics"], &Method::GET) => Route::Metrics(metrics::Query::parse(query)?),
        (["upload", project, name], &Method::POST) if is_name(project) && is_subdomain(name) => {
            Route::Upload(Volume { project: (*project).to_owned(), name: (*name).to_owned() })
        }
        (["download", project, export, volume, file], &Method::GET)
            if is_name(project) && is_subdomain(export) && is_subdomain(volume) =>
        {
            let format = Format::of(file).ok_or_else(|| none(method, path))?;
            let owned = |word: &str| word.to_owned();
            Route::Download(Wanted {
                project: owned(project),
                export: owned(export),
                volume: owned(volume),
                format,
            })
        }
        (["watch"], &Method::GET) => Route::Watch(kinds(query)),
        _ => return Err(none(method, path)),
    };
    Ok(found)
}

fn none(method: &Method, path: &str) -> Refusal {
    Refusal::not_found(format!("the console does not offer {method} {path}"))
}

/// `kinds=machines,nodes`.
fn kinds(query: Option<&str>) -> Vec<String> {
    let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let values = pairs.filter(|(key, _)| *key == "kinds").flat_map(|(_, value)| value.split(','));
    values.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: Method, path: &str) -> Result<Route, Refusal> {
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        route(&method, path, query)
    }

    #[test]
    fn everything_below_console_but_login_and_claim_is_for_who_has_logged_in() {
        for (method, path, access) in [
            (Method::GET, "/healthz", Access::Public),
            (Method::GET, "/", Access::Public),
            (Method::GET, "/assets/x.js", Access::Public),
            (Method::POST, "/console/login", Access::Public),
            (Method::GET, "/console/sso", Access::Public),
            (Method::GET, "/console/sso/begin", Access::Public),
            (Method::GET, "/console/sso/callback?code=a&state=b", Access::Public),
            (Method::GET, "/console/claim", Access::Public),
            (Method::POST, "/console/claim", Access::Public),
            (Method::POST, "/console/claim/key", Access::Public),
            (Method::GET, "/console/session", Access::User),
            (Method::GET, "/console/watch?kinds=machines", Access::User),
            (Method::GET, "/console/metrics?cluster", Access::User),
            (Method::GET, "/api/api/v1/nodes", Access::User),
            (Method::POST, "/console/logout", Access::Person),
            (Method::POST, "/console/password", Access::Person),
            (Method::GET, "/console/tokens", Access::Person),
            (Method::POST, "/console/tokens", Access::Person),
            (Method::DELETE, "/console/tokens/x", Access::Person),
            (Method::GET, "/console/users", Access::Person),
            (Method::POST, "/console/users", Access::Person),
            (Method::PATCH, "/console/users/x", Access::Person),
            (Method::DELETE, "/console/users/x", Access::Person),
            (Method::DELETE, "/console/users/x/second", Access::Person),
            (Method::GET, "/console/second", Access::Person),
            (Method::POST, "/console/second", Access::Person),
            (Method::POST, "/console/second/confirm", Access::Person),
            (Method::POST, "/console/second/remove", Access::Person),
            (Method::POST, "/console/join-tokens", Access::Person),
            (Method::POST, "/console/upload/shop/disk", Access::Person),
            (Method::GET, "/console/download/shop/away/disk/disk.img.gz", Access::Person),
        ] {
            assert_eq!(of(method, path).unwrap().access(), access, "{path}");
        }
    }

    #[test]
    fn what_is_not_there_is_said_and_a_file_is_not_written() {
        assert_eq!(of(Method::POST, "/").unwrap_err().code, 405);
        assert_eq!(
            of(Method::DELETE, "/index.html").unwrap_err().message,
            "DELETE /index.html is not possible"
        );
        for path in
            ["/console/", "/console/users/a/b", "/console/login/", "/console/LOGIN", "/console//users"]
        {
            assert_eq!(of(Method::GET, path).unwrap_err().code, 404, "{path}");
        }
        assert_eq!(of(Method::GET, "/console/login").unwrap_err().code, 404);
        // Not below /api/: a file, which is not there.
        assert_eq!(of(Method::GET, "/apis/kubevirt.io/v1"), Ok(Route::Asset("/apis/kubevirt.io/v1".into())));
        assert_eq!(
            of(Method::GET, "/console/watch?x=1&kinds=machines,,nodes"),
            Ok(Route::Watch(vec!["machines".into(), "nodes".into()]))
        );
    }

    #[test]
    fn files_go_into_and_out_of_objects_whose_names_are_names() {
        let volume = |name: &str| Volume { project: "shop".into(), name: name.into() };
        assert_eq!(of(Method::POST, "/console/upload/shop/a.b-1"), Ok(Route::Upload(volume("a.b-1"))));
        let wanted = |format| Wanted {
            project: "shop".into(),
            export: "away".into(),
            volume: "web-root".into(),
            format,
        };
        let download = |file: &str| of(Method::GET, &format!("/console/download/shop/away/web-root/{file}"));
        assert_eq!(download("disk.img"), Ok(Route::Download(wanted(Format::Raw))));
        assert_eq!(download("disk.img.gz"), Ok(Route::Download(wanted(Format::Gzip))));
        for (method, path) in [
            (Method::GET, "/console/upload/shop/disk"),
            (Method::POST, "/console/upload/Shop/disk"),
            (Method::POST, "/console/upload/shop/.."),
            (Method::POST, "/console/upload/shop/%2e%2e"),
            (Method::POST, "/console/upload/shop/a/b"),
            (Method::GET, "/console/download/shop/away/web-root/dir"),
            (Method::GET, "/console/download/shop/away/../disk.img"),
            (Method::POST, "/console/download/shop/away/web-root/disk.img"),
        ] {
            assert_eq!(of(method.clone(), path).unwrap_err().code, 404, "{method} {path}");
        }
    }

    #[test]
    fn a_page_that_is_left_open_is_not_use() {
        let is_use = |path: &str| of(Method::GET, path).unwrap().is_use();
        assert!(!is_use("/console/session") && !is_use("/console/watch") && !is_use("/"));
        assert!(is_use("/api/apis/kubevirt.io/v1/virtualmachines") && is_use("/console/users"));
    }
}
