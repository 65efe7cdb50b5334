//! Stage `root`: the node's root file system and its hash tree.
//!
//! Packages, then the overlay `os-image/image/rootfs`, then our programs, then `customize.sh` in that tree; the
//! tree becomes an erofs and a dm-verity tree, both with UUIDs that follow from the contents, by which the node's
//! UKI finds its own root on any disk.
//! Route in: earlier stages and `os-image/image`. Route out: `root.erofs`, `root.verity`, `root.hash`, `uuids`,
//! `packages.txt`, `modules.txt`, `files.txt`.

use super::Ground;
use super::packages::{kernel_version, left_out};
use super::programs;
use crate::error::BuildError;
use crate::inputs::{Digest, Inputs};
use crate::lists;
use crate::sbom;
use crate::signing::Key;
use crate::source::Source;
use crate::stage::{Made, Spec, StageDir};
use sheaf_config::recipe::{Compression, MODULE_SETS, Recipe};
use sheaf_host::chroot::Chroot;
use sheaf_host::run::Command;
use std::fs;
use std::path::PathBuf;

/// The erofs.
pub const EROFS: &str = "root.erofs";
/// Its hash tree.
pub const VERITY: &str = "root.verity";
/// Name, version and source of each package, as `customize.sh` wrote it before dpkg was removed.
pub const PACKAGES: &str = "packages.txt";
/// Each file of the root, as [`crate::files`] reads it.
const FILES: &str = crate::files::FILE;
/// The kernel's modules, a path below `/usr/lib/modules/VERSION/kernel` on each line.
pub const MODULES: &str = "modules.txt";
/// The root hash, hex.
const HASH: &str = "root.hash";
/// UUIDs of both, a line each.
const UUIDS: &str = "uuids";

/// Names under which `kube` runs one of its programs.
const KUBE_NAMES: [&str; 8] = [
    "etcd",
    "etcdctl",
    "etcdutl",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubeadm",
    "kubectl",
];

/// Our programs are padded to a multiple of this many bytes with zeros, which no loader reads: a changed line then
/// moves no other file of the erofs, and only the frames it stands in are compressed and shipped again.
const PROGRAM_STEP: &str = "1M";

/// Puts packages, overlay and programs together in /mnt/scratch/root. Owner and modes of the overlay are root's and
/// what git keeps; directories that packages brought stay as they are.
const ASSEMBLE: &str = r#"set -eu
root=/mnt/scratch/root
tar -C "$root" --xattrs --xattrs-include='*' --exclude='./dev/*' --numeric-owner -xpf /mnt/packages/tree.tar
for overlay in /mnt/overlay-*; do
    tar -C "$overlay" --owner=0 --group=0 --numeric-owner --mode='u=rwX,go=rX' --mtime="@$SOURCE_DATE_EPOCH" -cf - . |
        tar -C "$root" --no-overwrite-dir --keep-directory-symlink -xpf -
done
install -m 0755 /mnt/programs/sheaf-agent /mnt/programs/sheaf-controller /mnt/programs/sheaf-console "$root/usr/bin/"
install -m 0755 /mnt/kube/kube "$root/usr/bin/kube"
for program in sheaf-agent sheaf-controller sheaf-console; do truncate --size="%$STEP" "$root/usr/bin/$program"; done
install -D -m 0644 "/mnt/contents/$SBOM" "$root/usr/share/sheaf/$SBOM"
printf '%s' "$PUBLIC_KEY" >"$root/usr/share/sheaf/release.pub"
test -z "$KEYS" || printf '%s' "$KEYS" >"$root/usr/share/sheaf/keys.json"
for name in $KUBE_NAMES; do ln -sf kube "$root/usr/bin/$name"; done
test -d "$root/usr/lib/modules/$KERNEL" || {
    echo "the node's packages hold kernel $(ls "$root/usr/lib/modules"), the initrd's $KERNEL" >&2; exit 1; }"#;

/// Runs in the tree: every library our programs ask for is there, at the symbol versions they ask for.
const CHECK: &str = r#"set -eu
for program in /usr/bin/sheaf-agent /usr/bin/sheaf-controller /usr/bin/sheaf-console; do /lib64/ld-linux-x86-64.so.2 --list "$program"; done"#;

/// What only the build needed.
const CLEAN: &str = r#"set -eu
cd /mnt/scratch/root
for dir in boot dev proc sys run tmp mnt; do mkdir -p "$dir"; find "$dir" -mindepth 1 -delete; done"#;

/// Lists what drivers are left.
const LIST_MODULES: &str = r#"set -eu
cd /mnt/scratch/root/usr/lib/modules/"$KERNEL"/kernel
find . -name '*.ko*' -printf '%P\n' | LC_ALL=C sort >/mnt/out/"$MODULES""#;

/// Lists every file: SHA-256, kind, mode, bytes, path, where a link leads. Sizes of folders depend on the build host.
const LIST_FILES: &str = r#"set -eu
cd /mnt/scratch/root
LC_ALL=C; export LC_ALL
find . -mindepth 1 -type f -print0 | xargs -0 sha256sum --zero | tr '\0' '\n' >/tmp/sums
find . -mindepth 1 -printf '%p\t%y\t%m\t%s\t%l\n' | sort >/tmp/files
awk -F '\t' -v OFS='\t' '
    NR == FNR { sum[substr($0, 67)] = substr($0, 1, 64); next }
    { print ($2 == "f" ? sum[$1] : "-"), $2, $3, ($2 == "f" ? $4 : 0), substr($1, 2), $5 }
' /tmp/sums /tmp/files >/mnt/out/"$FILES""#;

/// What a root is made of.
pub struct Root<'a> {
    /// Where, with what and what for.
    pub ground: Ground<'a>,
    /// The node's packages.
    pub packages: &'a Made,
    /// The initrd's, which bring the kernel that its modules must fit.
    pub initrd_packages: &'a Made,
    /// Our programs.
    pub programs: &'a Made,
    /// The control plane.
    pub kube: &'a Made,
    /// The key that signs the release, and the list of keys that it brings.
    pub key: &'a Key,
    /// The bill of materials.
    pub contents: &'a Made,
}

/// How a finished root is found and verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// dm-verity's root hash.
    pub hash: String,
    /// UUID of the erofs.
    pub root_uuid: String,
    /// UUID of the hash tree.
    pub verity_uuid: String,
}

impl Root<'_> {
    /// Makes it.
    pub fn build(&self) -> Result<Made, BuildError> {
        let release = &self.ground.recipe.release;
        let mut inputs = Inputs::new("root", 3)
            .digest("tools", &self.ground.tools.digest)
            .digest("packages", &self.packages.digest)
            .text("kernel", &kernel_version(self.initrd_packages)?)
            .digest("kube", &self.kube.digest)
            .text("name", &release.name)
            .text("version", &release.version)
            .text("epoch", &release.epoch.to_string())
            .text("public key", &self.key.public)
            .text("compression", &format!("{:?}", self.ground.recipe.compression))
            .path(&self.ground.source.image("rootfs"))?
            .path(&self.ground.source.image("customize.sh"))?
            .path(&left_out(self.ground.source))?
            .path(&self.contents.file(sbom::FILE))?;
        for path in self.overlays().iter().skip(1).chain(&self.ground.recipe.scripts) {
            inputs = inputs.path(path)?;
        }
        for (name, items) in self.switched()? {
            inputs = inputs.texts(name, items.iter().map(String::as_str));
        }
        if let Some(keys) = &self.key.keys {
            inputs = inputs.text("keys", keys);
        }
        for program in programs::NODE {
            inputs = inputs.path(&self.programs.file(program))?;
        }
        self.ground.context.stage(
            Spec { name: "root", inputs, output_digest_files: &[EROFS, HASH] },
            |stage| {
                self.assemble(stage)?;
                self.customize(stage)?;
                self.erofs(stage)
            },
        )
    }

    /// Folders laid over the packages: the image's own and the recipe's.
    fn overlays(&self) -> Vec<PathBuf> {
        let own = self.ground.source.image("rootfs");
        std::iter::once(own).chain(self.ground.recipe.overlays.iter().cloned()).collect()
    }

    /// What the recipe switches on and off, as `customize.sh` reads it from `/mnt/recipe`.
    fn switched(&self) -> Result<[(&'static str, Vec<String>); 4], BuildError> {
        let Recipe { units, modules, .. } = self.ground.recipe;
        Ok([
            ("modules-dropped", dropped(self.ground.source, &modules.keep)?),
            ("modules-loaded", modules.load.clone()),
            ("units-enabled", units.enable.clone()),
            ("units-masked", units.mask.clone()),
        ])
    }

    fn epoch(&self) -> String {
        self.ground.recipe.release.epoch.to_string()
    }

    fn assemble(&self, stage: &StageDir<'_>) -> Result<(), BuildError> {
        let root = stage.scratch.join("root");
        fs::create_dir(&root).map_err(BuildError::io(&root))?;
        let assemble = Command::new("sh")
            .args(["-c", ASSEMBLE])
            .env("SOURCE_DATE_EPOCH", self.epoch())
            .env("STEP", PROGRAM_STEP)
            .env("KUBE_NAMES", KUBE_NAMES.join(" "))
            .env("PUBLIC_KEY", &self.key.public)
            .env("KEYS", self.key.keys.as_deref().unwrap_or_default())
            .env("SBOM", sbom::FILE)
            .env("KERNEL", kernel_version(self.initrd_packages)?);
        let mut chroot = self.ground.tools.chroot();
        for (index, overlay) in self.overlays().iter().enumerate() {
            chroot = chroot.read(overlay, &format!("overlay-{index:03}"));
        }
        let chroot = chroot
            .read(&self.packages.dir, "packages")
            .read(&self.programs.dir, "programs")
            .read(&self.kube.dir, "kube")
            .read(&self.contents.dir, "contents")
            .write(stage.scratch, "scratch");
        stage.run(&chroot.enter(&assemble))?;
        Ok(())
    }

    fn customize(&self, stage: &StageDir<'_>) -> Result<(), BuildError> {
        let release = &self.ground.recipe.release;
        let tree = Chroot::new(stage.scratch.join("root"), self.ground.context.privilege);
        let customize = Command::new("sh")
            .arg("/mnt/customize.sh")
            .env("SHEAF_NAME", &release.name)
            .env("SHEAF_VERSION", &release.version)
            .env("SOURCE_DATE_EPOCH", self.epoch());
        let recipe = stage.scratch.join("recipe");
        fs::create_dir(&recipe).map_err(BuildError::io(&recipe))?;
        for (name, items) in self.switched()? {
            let path = recipe.join(name);
            let text: String = items.iter().map(|item| format!("{item}\n")).collect();
            fs::write(&path, text).map_err(BuildError::io(&path))?;
        }
        let with = tree
            .clone()
            .read(&recipe, "recipe")
            .read(self.ground.source.image("customize.sh"), "customize.sh")
            .read(left_out(self.ground.source), "left-out.list");
        stage.run(&with.enter(&customize))?;
        for script in &self.ground.recipe.scripts {
            let run = Command::new("sh").arg("/mnt/script").env("SOURCE_DATE_EPOCH", self.epoch());
            stage.run(&tree.clone().read(script, "script").enter(&run))?;
        }
        stage.run(&tree.enter(&Command::new("sh").args(["-c", CHECK])))?;
        let clean = Command::new("sh").args(["-c", CLEAN]);
        stage.run(&self.ground.tools.chroot().write(stage.scratch, "scratch").enter(&clean))?;
        Ok(())
    }

    fn erofs(&self, stage: &StageDir<'_>) -> Result<(), BuildError> {
        let tools = self.ground.tools.chroot().write(stage.out, "out").read(stage.scratch, "scratch");
        let mkfs = |uuid: &str| {
            let mut mkfs = Command::new("mkfs.erofs").args(["--quiet", "-T", &self.epoch(), "-U", uuid]);
            if self.ground.recipe.compression == Compression::Lz4 {
                // 64 KiB clusters: half way between the size of larger ones and the read speed of smaller.
                mkfs = mkfs.args(["-zlz4hc,12", "-C65536"]);
            }
            stage.run(&tools.enter(&mkfs.args([&format!("/mnt/out/{EROFS}"), "/mnt/scratch/root"])))
        };
        // Once without a UUID to learn what the contents are, and again with the one that follows from them.
        mkfs("00000000-0000-0000-0000-000000000000")?;
        let contents = Digest::of_file(&stage.out.join(EROFS))?;
        let (root_uuid, verity_uuid) = (contents.uuid("root"), contents.uuid("verity"));
        mkfs(&root_uuid)?;
        let salt = Digest::of(format!("salt {contents}").as_bytes());
        let verity = Command::new("veritysetup")
            .args(["format", &format!("--salt={salt}"), &format!("--uuid={verity_uuid}")])
            .arg(format!("--root-hash-file=/mnt/out/{HASH}"))
            .args([EROFS, VERITY].map(|file| format!("/mnt/out/{file}")));
        stage.run(&tools.enter(&verity))?;
        let path = stage.out.join(UUIDS);
        fs::write(&path, format!("{root_uuid}\n{verity_uuid}\n")).map_err(BuildError::io(&path))?;
        let list =
            Command::new("cp").args([&format!("/mnt/scratch/root/usr/share/sheaf/{PACKAGES}"), "/mnt/out/"]);
        stage.run(&tools.enter(&list))?;
        let modules = Command::new("sh")
            .args(["-c", LIST_MODULES])
            .env("KERNEL", kernel_version(self.initrd_packages)?)
            .env("MODULES", MODULES);
        stage.run(&tools.enter(&modules))?;
        let files = Command::new("sh").args(["-c", LIST_FILES]).env("FILES", FILES);
        stage.run(&tools.enter(&files))?;
        Ok(())
    }
}

/// Folders of kernel modules that are not in the image: of every set but those in `keep`.
fn dropped(source: &Source, keep: &[String]) -> Result<Vec<String>, BuildError> {
    let mut dropped = lists::read(&source.modules("never"))?;
    for set in MODULE_SETS.into_iter().filter(|set| keep.iter().all(|kept| kept != set)) {
        dropped.extend(lists::read(&source.modules(set))?);
    }
    Ok(dropped)
}

impl Identity {
    /// Of a finished root.
    pub fn of(root: &Made) -> Result<Self, BuildError> {
        let read = |name: &str| {
            let path = root.file(name);
            fs::read_to_string(&path).map_err(BuildError::io(&path))
        };
        let (hash, uuids) = (read(HASH)?, read(UUIDS)?);
        let mut uuids = uuids.lines().map(str::to_owned);
        match (uuids.next(), uuids.next()) {
            (Some(root_uuid), Some(verity_uuid)) => {
                Ok(Self { hash: hash.trim().to_owned(), root_uuid, verity_uuid })
            }
            _ => Err(BuildError::wrong(
                format!("{} is damaged", root.file(UUIDS).display()),
                "remove the cache",
            )),
        }
    }

    /// Kernel arguments that make systemd find and verify it.
    pub fn kernel_arguments(&self) -> [String; 3] {
        [
            format!("roothash={}", self.hash),
            format!("systemd.verity_root_data=UUID={}", self.root_uuid),
            format!("systemd.verity_root_hash=UUID={}", self.verity_uuid),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_config::recipe::FIRMWARE_SETS;
    use std::path::Path;

    #[test]
    fn every_set_has_its_list_and_a_set_that_is_kept_is_not_dropped() {
        let source = Source::find(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        let all = dropped(&source, &[]).unwrap();
        let kept = dropped(&source, &["graphics".to_owned()]).unwrap();
        let graphics = lists::read(&source.modules("graphics")).unwrap();
        assert!(all.contains(&"drivers/gpu".to_owned()));
        assert_eq!(all.len() - kept.len(), graphics.len());
        for set in FIRMWARE_SETS {
            assert!(!lists::read(&source.list(&format!("firmware-{set}"))).unwrap().is_empty(), "{set}");
        }
    }
}
