//! Stage `payload`: root and hash tree as zstd frames.
//!
//! Route in: the root stage. Route out: `root.erofs.zst`, `root.verity.zst`, and `payload.json` that describes
//! both as the manifest does.

use super::root::{EROFS, VERITY};
use crate::error::BuildError;
use crate::frames;
use crate::inputs::Inputs;
use crate::stage::{BuildContext, Made, Spec};
use sheaf_config::manifest::Compressed;
use std::fs;

/// Description of both files, in the manifest's own words.
const DESCRIPTION: &str = "payload.json";

/// Compresses what `root` made.
pub fn build(context: &BuildContext<'_>, root: &Made, level: i32) -> Result<Made, BuildError> {
    let inputs = Inputs::new("payload", 1).digest("root", &root.digest).text("level", &level.to_string());
    context.stage(Spec { name: "payload", inputs, output_digest_files: &[] }, |stage| {
        let cache = frames::Cache::open(&context.cache.join("frames"))?;
        let pack = |name: &str| {
            frames::compress(&root.file(name), &stage.out.join(format!("{name}.zst")), level, &cache)
        };
        let both = [pack(EROFS)?, pack(VERITY)?];
        let path = stage.out.join(DESCRIPTION);
        let text = serde_json::to_vec(&both).map_err(|error| BuildError::io(&path)(error.into()))?;
        fs::write(&path, text).map_err(BuildError::io(&path))?;
        cache.forget_old()
    })
}

/// Root and hash tree, as the manifest describes them.
pub fn describe(payload: &Made) -> Result<[Compressed; 2], BuildError> {
    let path = payload.file(DESCRIPTION);
    let text = fs::read(&path).map_err(BuildError::io(&path))?;
    serde_json::from_slice(&text).map_err(|error| BuildError::io(&path)(error.into()))
}
