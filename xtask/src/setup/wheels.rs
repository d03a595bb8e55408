//! The files that make a libtorch, pinned by size and hash, and what is taken from each.

/// One wheel of the Python package index.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wheel {
    pub(super) package: &'static str,
    pub(super) version: &'static str,
    /// Between version and `.whl`: Python, ABI, platforms.
    tags: &'static str,
    pub(super) bytes: u64,
    pub(super) sha256: &'static str,
    /// Members for a CPU, by prefix; none: the wheel is for GPUs alone.
    pub(super) cpu_members: &'static [&'static str],
}

/// For a GPU: everything but the metadata.
pub(super) const CUDA_MEMBERS: &[&str] = &["torch/", "nvidia/"];

impl Wheel {
    pub(super) fn file_name(&self) -> String {
        format!("{}-{}-{}.whl", self.package.replace('-', "_"), self.version, self.tags)
    }

    /// As pip asks for them, one `--platform` each.
    pub(super) fn platforms(&self) -> impl Iterator<Item = &'static str> {
        self.tags.rsplit('-').next().unwrap_or_default().split('.')
    }
}

/// `libtorch_cpu.so` of this build links the CUDA runtime and CUPTI even where no GPU is.
pub(super) const WHEELS: &[Wheel] = &[
    Wheel {
        package: "torch",
        version: "2.11.0",
        tags: "cp312-cp312-manylinux_2_28_x86_64",
        bytes: 530_712_279,
        sha256: "0f68f4ac6d95d12e896c3b7a912b5871619542ec54d3649cf48cc1edd4dd2756",
        cpu_members: &[
            "torch/lib/libtorch.so",
            "torch/lib/libtorch_cpu.so",
            "torch/lib/libc10.so",
            "torch/lib/libgomp.so.1",
            "torch/include/",
            "torch/version.py",
        ],
    },
    Wheel {
        package: "nvidia-cuda-runtime",
        version: "13.0.96",
        tags: "py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64",
        bytes: 2_243_632,
        sha256: "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
        cpu_members: &["nvidia/cu13/lib/libcudart.so.13"],
    },
    Wheel {
        package: "nvidia-cuda-cupti",
        version: "13.0.85",
        tags: "py3-none-manylinux_2_25_x86_64",
        bytes: 10_715_597,
        sha256: "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
        cpu_members: &["nvidia/cu13/lib/libcupti.so.13"],
    },
    Wheel {
        package: "nvidia-cudnn-cu13",
        version: "9.19.0.56",
        tags: "py3-none-manylinux_2_27_x86_64",
        bytes: 366_066_321,
        sha256: "d20e1734305e9d68889a96e3f35094d733ff1f83932ebe462753973e53a572bf",
        cpu_members: &[],
    },
    Wheel {
        package: "nvidia-cusparselt-cu13",
        version: "0.8.0",
        tags: "py3-none-manylinux2014_x86_64",
        bytes: 169_884_119,
        sha256: "25e30a8a7323935d4ad0340b95a0b69926eee755767e8e0b1cf8dd85b197d3fd",
        cpu_members: &[],
    },
    Wheel {
        package: "nvidia-nccl-cu13",
        version: "2.28.9",
        tags: "py3-none-manylinux_2_18_x86_64",
        bytes: 196_493_177,
        sha256: "e4553a30f34195f3fa1da02a6da3d6337d28f2003943aa0a3d247bbc25fefc42",
        cpu_members: &[],
    },
    Wheel {
        package: "nvidia-nvshmem-cu13",
        version: "3.4.5",
        tags: "py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64",
        bytes: 60_412_546,
        sha256: "290f0a2ee94c9f3687a02502f3b9299a9f9fe826e6d0287ee18482e78d495b80",
        cpu_members: &[],
    },
    Wheel {
        package: "nvidia-cublas",
        version: "13.1.0.3",
        tags: "py3-none-manylinux_2_27_x86_64",
        bytes: 423_133_236,
        sha256: "ee8722c1f0145ab246bccb9e452153b5e0515fd094c3678df50b2a0888b8b171",
        cpu_members: &[],
    },
    Wheel {
        package: "nvidia-cuda-nvrtc",
        version: "13.0.88",
        tags: "py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64",
        bytes: 90_215_200,
        sha256: "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575",
        cpu_members: &[],
    },
    Wheel {
        package: "nvidia-cufft",
        version: "12.0.0.61",
        tags: "py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64",
        bytes: 214_085_489,
        sha256: "6c44f692dce8fd5ffd3e3df134b6cdb9c2f72d99cf40b62c32dde45eea9ddad3",
        cpu_members: &[],
    },
    Wheel {
        package: "nvidia-cufile",
        version: "1.15.1.6",
        tags: "py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64",
        bytes: 1_223_672,
        sha256: "08a3ecefae5a01c7f5117351c64f17c7c62efa5fffdbe24fc7d298da19cd0b44",
        cpu_members: &[],
    },
    Wheel {
        package: "nvidia-curand",
        version: "10.4.0.35",
        tags: "py3-none-manylinux_2_27_x86_64",
        bytes: 59_544_258,
        sha256: "1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc",
        cpu_members: &[],
    },
    Wheel {
        package: "nvidia-cusolver",
        version: "12.0.4.66",
        tags: "py3-none-manylinux_2_27_x86_64",
        bytes: 200_941_980,
        sha256: "0a759da5dea5c0ea10fd307de75cdeb59e7ea4fcb8add0924859b944babf1112",
        cpu_members: &[],
    },
    Wheel {
        package: "nvidia-cusparse",
        version: "12.6.3.3",
        tags: "py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64",
        bytes: 145_942_937,
        sha256: "2b3c89c88d01ee0e477cb7f82ef60a11a4bcd57b6b87c33f789350b59759360b",
        cpu_members: &[],
    },
    Wheel {
        package: "nvidia-nvjitlink",
        version: "13.0.88",
        tags: "py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64",
        bytes: 40_713_933,
        sha256: "13a74f429e23b921c1109976abefacc69835f2f433ebd323d3946e11d804e47b",
        cpu_members: &[],
    },
    Wheel {
        package: "nvidia-nvtx",
        version: "13.0.85",
        tags: "py3-none-manylinux1_x86_64.manylinux_2_5_x86_64",
        bytes: 148_047,
        sha256: "4936d1d6780fbe68db454f5e72a42ff64d1fd6397df9f363ae786930fd5c1cd4",
        cpu_members: &[],
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_table_is_well_formed() {
        let names: BTreeSet<_> = WHEELS.iter().map(|wheel| wheel.package).collect();
        assert_eq!((names.len(), WHEELS.len()), (16, 16), "each package once");
        for wheel in WHEELS {
            let hash = hex::decode(wheel.sha256).expect("hexadecimal");
            assert_eq!(hash.len(), 32, "{}", wheel.package);
            assert!(wheel.platforms().all(|platform| platform.ends_with("_x86_64")), "{}", wheel.package);
            assert!(wheel.cpu_members.iter().all(|m| CUDA_MEMBERS.iter().any(|all| m.starts_with(all))));
        }
    }

    #[test]
    fn file_names_and_platforms_are_those_of_the_index() {
        let runtime = &WHEELS[1];
        assert_eq!(
            runtime.file_name(),
            "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl"
        );
        let platforms: Vec<_> = runtime.platforms().collect();
        assert_eq!(platforms, ["manylinux2014_x86_64", "manylinux_2_17_x86_64"]);
    }
}
