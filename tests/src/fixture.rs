//! The images that the tests, the demo and the benchmarks run: where they are and how they are made. Debian's own files
//! are in them, not imitations. Made anew when this file or what goes into them has changed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::archive::{Compression, Image, Layer, mode};

mod entries;

/// The busybox image as `docker save` writes it.
#[must_use]
pub fn busybox() -> String {
    format!("docker-archive:{}", path("busybox.tar").display())
}

/// The busybox image as an OCI layout with gzip layers, in a directory.
#[must_use]
pub fn busybox_oci() -> String {
    format!("oci:{}", path("busybox-oci").display())
}

/// The busybox image as an OCI archive with zstd layers, tagged `latest`.
#[must_use]
pub fn busybox_zstd() -> String {
    format!("oci-archive:{}", path("busybox-zstd.tar").display())
}

/// An image whose configuration sets everything: entrypoint, command, environment, user and working directory.
#[must_use]
pub fn configured() -> String {
    format!("docker-archive:{}", path("configured.tar").display())
}

/// An image with every kind of entry that a layer can have, and with what one layer can do to another.
#[must_use]
pub fn entries() -> String {
    format!("oci-archive:{}", path("entries.tar").display())
}

/// Debian with python3, and the entries of [`entries()`].
#[must_use]
pub fn python() -> String {
    format!("docker-archive:{}", path("python.tar").display())
}

/// Debian with redis, nginx and postgresql, and with curl, wget, apt, iperf3, ip and nft.
#[must_use]
pub fn servers() -> String {
    format!("docker-archive:{}", path("servers.tar").display())
}

/// A file among the fixtures.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    crate::target().join("fixtures").join(name)
}

/// Makes the small images, unless they are there. Needs Debian's busybox-static.
pub fn make() -> Result<()> {
    let busybox = std::fs::read("/bin/busybox").context("There is no /bin/busybox")?;
    let recipe = [
        include_bytes!("fixture.rs").as_slice(),
        include_bytes!("fixture/entries.rs"),
        include_bytes!("archive.rs"),
        &busybox,
    ];
    let recipe = crate::archive::hexadecimal(&recipe.concat());
    let stamp = path("recipe");
    if std::fs::read_to_string(&stamp).is_ok_and(|made| made == recipe) {
        return Ok(());
    }
    std::fs::create_dir_all(path(""))?;
    let base = base_layer(&busybox)?;
    let image = Image {
        layers: vec![base.clone()],
        config: json!({ "Cmd": ["sh"], "Env": [PATH] }),
    };
    write("busybox.tar", &image.docker_archive("busybox:latest")?)?;
    write(
        "busybox-zstd.tar",
        &image.oci_archive("latest", Compression::Zstd)?,
    )?;
    let layout = path("busybox-oci");
    let _ = std::fs::remove_dir_all(&layout);
    for (name, bytes) in image.oci("latest", Compression::Gzip)? {
        let file = layout.join(name);
        std::fs::create_dir_all(file.parent().unwrap_or(&layout))?;
        std::fs::write(file, bytes)?;
    }
    let config = json!({
        "Entrypoint": ["/bin/echo", "entry"],
        "Cmd": ["and", "command"],
        "Env": [PATH, "GREETING=from the image"],
        "User": "user",
        "WorkingDir": "/made/by hull",
    });
    let configured = Image {
        layers: vec![base.clone()],
        config,
    };
    write(
        "configured.tar",
        &configured.docker_archive("configured:latest")?,
    )?;
    write(
        "entries.tar",
        &entries::image(base)?.oci_archive("latest", Compression::Gzip)?,
    )?;
    std::fs::write(stamp, recipe)?;
    Ok(())
}

/// Makes the python image, unless it is there. Needs Debian's mmdebstrap and root, and takes two minutes.
pub fn make_python() -> Result<()> {
    // The odd entries lie on top, for python can look closer at them than busybox.
    make_debian("python", &["--include=python3"], "python3", entries::image)
}

/// Makes the image of servers, unless it is there. Needs the same and takes as long.
pub fn make_servers() -> Result<()> {
    let options = [
        "--include=redis-server,nginx-light,postgresql-15,apt,curl,iperf3,iproute2,less,nftables,procps,vim-tiny,wget",
        // What no test asks for and would be most of the bytes, the just-in-time compiler first.
        "--dpkgopt=path-exclude=/usr/lib/postgresql/15/lib/bitcode/*",
        "--dpkgopt=path-exclude=/usr/lib/postgresql/15/lib/llvmjit*",
        "--dpkgopt=path-exclude=/usr/lib/x86_64-linux-gnu/libLLVM*",
        "--dpkgopt=path-exclude=/usr/lib/x86_64-linux-gnu/libz3*",
        // The test makes its own database.
        "--dpkgopt=force-confold",
        "--essential-hook=mkdir -p \"$1/etc/postgresql-common\"",
        "--essential-hook=echo create_main_cluster = false >\"$1/etc/postgresql-common/createcluster.conf\"",
    ];
    make_debian("servers", &options, "bash", |layer| {
        Ok(Image {
            layers: vec![layer],
            config: json!({}),
        })
    })
}

/// Makes an image of Debian's essential packages and more, unless it is there as it is to be.
fn make_debian(
    name: &str,
    options: &[&str],
    command: &str,
    image: impl FnOnce(Vec<u8>) -> Result<Image>,
) -> Result<()> {
    let file = format!("{name}.tar");
    let (stamp, recipe) = (path(&format!("{name}.recipe")), options.join("\n"));
    let made = std::fs::read_to_string(&stamp).is_ok_and(|made| made == recipe);
    if made && path(&file).exists() {
        return Ok(());
    }
    std::fs::create_dir_all(path(""))?;
    let work = tempfile::tempdir_in(path(""))?;
    let root = work.path().join("root.tar");
    let output = Command::new("mmdebstrap")
        .args([
            "--variant=essential",
            // Half an image is thrown away anyway: nothing has to reach the disk in between.
            "--dpkgopt=force-unsafe-io",
            // A third of the bytes, and none that a test looks at.
            "--dpkgopt=path-exclude=/usr/share/doc/*",
            "--dpkgopt=path-exclude=/usr/share/locale/*",
            "--dpkgopt=path-exclude=/usr/share/man/*",
        ])
        .args(options)
        .arg("bookworm")
        .arg(&root)
        .stdin(Stdio::null())
        .output()
        .context("mmdebstrap does not run")?;
    if !output.status.success() {
        bail!(
            "mmdebstrap failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let image = Image {
        config: json!({ "Cmd": [command], "Env": [PATH] }),
        ..image(std::fs::read(root)?)?
    };
    write(&file, &image.docker_archive(&format!("{name}:latest"))?)?;
    Ok(std::fs::write(stamp, recipe)?)
}

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Debian's static busybox with a link for each of its commands, and the few files that an image has.
fn base_layer(busybox: &[u8]) -> Result<Vec<u8>> {
    let list = Command::new("/bin/busybox")
        .arg("--list-full")
        .output()
        .context("busybox does not run")?;
    let mut layer = Layer::new();
    for directory in [
        "bin", "etc", "home", "root", "sbin", "usr", "usr/bin", "usr/sbin", "var",
    ] {
        layer.directory(directory, mode(0o755))?;
    }
    layer.directory("tmp", mode(0o1777))?;
    layer.directory("home/user", mode(0o755).owned(1000, 1000))?;
    layer.file("bin/busybox", mode(0o755), busybox)?;
    for command in String::from_utf8_lossy(&list.stdout).lines() {
        if command != "bin/busybox" {
            layer.symlink(command, "/bin/busybox")?;
        }
    }
    let users = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:A user:/home/user:/bin/sh\n";
    layer.file("etc/passwd", mode(0o644), users.as_bytes())?;
    layer.file(
        "etc/group",
        mode(0o644),
        b"root:x:0:\nuser:x:1000:\nwheel:x:10:root,user\n",
    )?;
    layer.finish()
}

/// Writes a fixture so that it is there in full or not at all.
fn write(name: &str, bytes: &[u8]) -> Result<()> {
    let partial = path(&format!("{name}.partial"));
    std::fs::write(&partial, bytes)?;
    std::fs::rename(partial, path(name))?;
    Ok(())
}

/// A directory of a test's own beneath the fixtures, empty.
pub fn scratch(name: &str) -> Result<PathBuf> {
    let directory = std::env::temp_dir().join(format!("hull-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("No directory {}", Path::display(&directory)))?;
    Ok(directory)
}
