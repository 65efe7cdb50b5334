//! Stage `kube`: the control plane's one binary.
//!
//! Route in: the Go module `kubernetes/`, or a ready file or URL that the recipe names. Route out: `kube`.

use crate::build_host::{self, GO};
use crate::error::BuildError;
use crate::inputs::{Digest, Inputs};
use crate::source::Source;
use crate::stage::{BuildContext, Made, Spec, StageDir};
use crate::tools::Tools;
use sheaf_config::recipe::Kube;
use sheaf_host::run::Command;
use std::fs;

/// The result's file.
pub const FILE: &str = "kube";
/// The stage's name.
const NAME: &str = "kube";

/// Builds it from the checkout: needs Go, but neither tools nor recipe.
pub fn build(context: &BuildContext<'_>, source: &Source) -> Result<Made, BuildError> {
    let module = source.path("kubernetes");
    let version = pinned(source)?;
    let inputs = Inputs::new(NAME, 1).path(&module)?;
    context.stage(Spec { name: NAME, inputs, output_digest_files: &[FILE] }, |stage| {
        build_host::require(GO, context.run, context.privilege)?;
        let build = Command::new("go")
            // Nothing of the checkout goes into the binary: neither its folder nor its commit.
            .args(["build", "-trimpath", "-buildvcs=false", "-ldflags", &linker_flags(&version), "-o"])
            .arg(stage.out.join(FILE))
            .arg(".")
            .dir(&module)
            .env("CGO_ENABLED", "0")
            .env("GOOS", "linux")
            .env("GOARCH", "amd64");
        stage.run(&build)?;
        Ok(())
    })
}

/// Takes it from where the recipe says.
pub fn obtain(
    context: &BuildContext<'_>,
    source: &Source,
    tools: &Tools,
    from: &Kube,
) -> Result<Made, BuildError> {
    match from {
        Kube::Source => build(context, source),
        Kube::File(path) => {
            let inputs = Inputs::new(NAME, 1).text("file", Digest::of_file(path)?.as_str());
            context.stage(Spec { name: NAME, inputs, output_digest_files: &[FILE] }, |stage| {
                fs::copy(path, stage.out.join(FILE)).map_err(BuildError::io(path))?;
                runs(stage)
            })
        }
        Kube::Url { url, sha256 } => {
            let inputs = Inputs::new(NAME, 1).text("sha256", sha256);
            context.stage(Spec { name: NAME, inputs, output_digest_files: &[FILE] }, |stage| {
                // apt's own downloader: it checks the hash and is in the chroot already.
                let fetch = Command::new("/usr/lib/apt/apt-helper").args([
                    "download-file",
                    url,
                    &format!("/mnt/out/{FILE}"),
                    &format!("SHA256:{sha256}"),
                ]);
                stage.run(&tools.chroot().network().write(stage.out, "out").enter(&fetch))?;
                runs(stage)
            })
        }
    }
}

/// Makes the result executable and sees that it is what it should be.
fn runs(stage: &StageDir<'_>) -> Result<(), BuildError> {
    let file = stage.out.join(FILE);
    stage.run(&Command::new("chmod").arg("0755").arg(&file))?;
    stage.run(&Command::new(&file).args(["kubeadm", "version"]))?;
    Ok(())
}

/// Version of Kubernetes that the checkout's module pins, `1.37.2`; a ready binary is taken for the same.
pub fn release(source: &Source) -> Result<String, BuildError> {
    let [.., whole] = pinned(source)?;
    Ok(whole.trim_start_matches('v').to_owned())
}

fn pinned(source: &Source) -> Result<[String; 3], BuildError> {
    let go_mod = source.path("kubernetes/go.mod");
    let text = fs::read_to_string(&go_mod).map_err(BuildError::io(&go_mod))?;
    version(&text).ok_or_else(|| {
        let what = format!("{} requires no version vX.Y.Z of k8s.io/kubernetes", go_mod.display());
        BuildError::wrong(what, "restore it: git checkout kubernetes/go.mod")
    })
}

/// Kubernetes' own version, as the module pins it: (major, minor, whole).
fn version(go_mod: &str) -> Option<[String; 3]> {
    let required = |line: &str| {
        let mut words = line.trim().trim_start_matches("require ").split_whitespace();
        (words.next() == Some("k8s.io/kubernetes")).then(|| words.next()).flatten().map(str::to_owned)
    };
    let whole = go_mod.lines().find_map(required)?;
    let mut parts = whole.strip_prefix('v')?.split('.');
    Some([parts.next()?.to_owned(), parts.next()?.to_owned(), whole])
}

fn linker_flags([major, minor, whole]: &[String; 3]) -> String {
    let set = |name: &str, value: &str| format!("-X k8s.io/component-base/version.git{name}={value}");
    ["-s -w".to_owned(), set("Version", whole), set("Major", major), set("Minor", minor)].join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubernetes_reports_the_version_that_go_mod_pins() {
        let go_mod =
            "module m\n\nrequire k8s.io/kubernetes v1.37.2\n\nrequire (\n\tk8s.io/kubectl v0.37.2\n)\n";
        let flags = linker_flags(&version(go_mod).unwrap());
        let expected = "-s -w -X k8s.io/component-base/version.gitVersion=v1.37.2 \
                        -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37";
        assert_eq!(flags, expected);
    }

    #[test]
    fn the_manifest_names_the_version_of_kubernetes_of_the_checkout() {
        let checkout = Source::find(env!("CARGO_MANIFEST_DIR").as_ref()).unwrap();
        let found = release(&checkout).unwrap();
        let text = fs::read_to_string(checkout.path("kubernetes/go.mod")).unwrap();
        assert!(text.contains(&format!("require k8s.io/kubernetes v{found}\n")), "{found}");
    }

    #[test]
    fn a_module_without_kubernetes_has_no_version() {
        assert_eq!(version("module m\nrequire k8s.io/kubectl v0.37.2\n"), None);
    }
}
