//! `sinternal certs`: a private authority with certificates for servers and callers, for those who have no other.
//!
//! The authority's key signs these certificates and is never written: nobody can make others that pass for ours later.

use crate::jobs::print;
use anyhow::{Context, ensure};
use clap::Args;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(86_400);

#[derive(Args)]
pub(crate) struct CertsArgs {
    /// Folder to write: ca.pem, server.pem, server.key, and client.pem, client.key with --client. It must be empty or absent
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Names or addresses by which the servers are called
    #[arg(long = "host", value_name = "NAME", required = true, num_args = 1..)]
    hosts: Vec<String>,
    /// Also a certificate for callers, where servers ask for one (`tls.client_ca`)
    #[arg(long)]
    client: bool,
    /// Days until they expire
    #[arg(long, default_value_t = 825, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
}

type Authority = CertifiedIssuer<'static, KeyPair>;

pub(crate) fn run(args: &CertsArgs) -> anyhow::Result<()> {
    let authority = authority(args.days)?;
    prepare(&args.out)?;
    write(&args.out.join("ca.pem"), &authority.pem(), 0o644)?;
    let usage = ExtendedKeyUsagePurpose::ServerAuth;
    signed(args, &authority, "server", &args.hosts, usage)?;
    if args.client {
        let names = ["sinternal-client".to_owned()];
        signed(args, &authority, "client", &names, ExtendedKeyUsagePurpose::ClientAuth)?;
    }
    let (out, hosts) = (args.out.display(), args.hosts.join(", "));
    print(&format!("{out}: certificates for {hosts}, good for {} days", args.days));
    Ok(())
}

fn prepare(out: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("failed to create {}", out.display()))?;
    let mut entries = out.read_dir().with_context(|| format!("failed to read {}", out.display()))?;
    ensure!(entries.next().is_none(), "{}: is not empty; choose another folder with --out", out.display());
    Ok(())
}

fn params(names: &[String], days: u32) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(names).context("--host: not names or addresses")?;
    let now = SystemTime::now();
    // A peer's clock may be behind.
    params.not_before = (now - DAY).into();
    params.not_after = (now + DAY * days).into();
    Ok(params)
}

fn authority(days: u32) -> anyhow::Result<Authority> {
    let mut params = params(&[], days)?;
    params.distinguished_name.push(DnType::CommonName, "sinternal private authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().context("failed to make a key")?;
    CertifiedIssuer::self_signed(params, key).context("failed to make the authority")
}

fn signed(
    args: &CertsArgs,
    authority: &Authority,
    file: &str,
    names: &[String],
    usage: ExtendedKeyUsagePurpose,
) -> anyhow::Result<()> {
    let mut params = params(names, args.days)?;
    params.distinguished_name.push(DnType::CommonName, names[0].clone());
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().context("failed to make a key")?;
    let certificate = params.signed_by(&key, authority).context("failed to sign a certificate")?;
    write(&args.out.join(format!("{file}.pem")), &certificate.pem(), 0o644)?;
    write(&args.out.join(format!("{file}.key")), &key.serialize_pem(), 0o600)
}

/// A new file that never had wider rights.
fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = file.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.with_context(|| format!("failed to write {}", path.display()))
}
