use super::*;

#[test]
fn cargos_default_is_not_a_choice_of_the_user() {
    let dir = Path::new("/checkout/.libtorch");
    assert_eq!(given_elsewhere(dir, None), None);
    assert_eq!(given_elsewhere(dir, Some(OsStr::new(""))), None);
    assert_eq!(given_elsewhere(dir, Some(OsStr::new("/checkout/.libtorch/torch"))), None);
    assert_eq!(given_elsewhere(dir, Some(OsStr::new("/opt/torch"))), Some("/opt/torch".into()));
}

#[test]
fn the_cpu_set_is_three_wheels_of_544_mb() {
    let packages: Vec<_> = Set::Cpu.wheels().map(|wheel| wheel.package).collect();
    assert_eq!(packages, ["torch", "nvidia-cuda-runtime", "nvidia-cuda-cupti"]);
    assert_eq!(Set::Cpu.wheels().map(|wheel| wheel.bytes).sum::<u64>(), 543_671_508);
    assert_eq!(Set::Cuda.wheels().count(), WHEELS.len());
}

#[test]
fn done_needs_a_stamp_of_this_set_and_a_whole_library() {
    let dir = tempfile::tempdir().expect("temporary folder");
    library::tests::fake(&dir.path().join("torch"), 11);
    assert!(!is_done(dir.path(), Set::Cpu), "no stamp: it may have been interrupted");
    write_stamp(dir.path(), &Set::Cpu.stamp()).expect("writable");
    assert!(is_done(dir.path(), Set::Cpu));
    assert!(!is_done(dir.path(), Set::Cuda), "a smaller set");
    write_stamp(dir.path(), "torch==2.10.0 of an older checkout\n").expect("writable");
    assert!(!is_done(dir.path(), Set::Cpu), "another version");
    write_stamp(dir.path(), &Set::Cuda.stamp()).expect("writable");
    assert!(is_done(dir.path(), Set::Cpu), "a larger set");
    fs::remove_file(dir.path().join("torch/lib/libc10.so")).expect("there");
    assert!(!is_done(dir.path(), Set::Cpu), "not whole");
}

#[test]
fn an_installed_pytorch_is_linked_and_stays_done_while_it_is_there() {
    let (dir, site) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder"));
    let torch = site.path().join("torch");
    library::tests::fake(&torch, 11);
    link(dir.path(), &torch).expect("links");
    assert_eq!(fs::read_link(dir.path().join("torch")).expect("a link"), torch);
    assert!(is_done(dir.path(), Set::Cpu));
    link(dir.path(), &torch).expect("links again");
    library::tests::fake(&torch, 12);
    assert!(!is_done(dir.path(), Set::Cpu), "it was upgraded");
}
