//! Where a supernet is trained: on the CPU, or on a GPU where the program was built for one.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;
#[cfg(feature = "cuda")]
use burn::tensor::DeviceType;
#[cfg(feature = "wgpu")]
use burn::tensor::wgpu::WgpuInitError;
use thiserror::Error;

/// What can train.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceKind {
    /// All cores, with kernels of our own.
    #[default]
    Cpu,
    /// A GPU through Vulkan, Metal or DirectX 12; needs the feature `wgpu`.
    Wgpu,
    /// An NVIDIA GPU through CUDA; needs the feature `cuda`.
    Cuda,
}

/// A name that is no device's.
#[derive(Debug, Error)]
#[error("unknown device `{0}`: choose cpu, wgpu or cuda")]
pub struct UnknownDevice(String);

/// Why a device cannot be used.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// The program was built without it.
    #[error(
        "device {0} is not in this program: leave out --device to train on the CPU, or build the program with it: \
         cargo build --release --locked -p elastic-cli --features {0}"
    )]
    NotBuilt(DeviceKind),
    /// No adapter can be used.
    #[cfg(feature = "wgpu")]
    #[error(
        "device wgpu cannot be used: {0}; install the GPU's Vulkan driver (`vulkaninfo` lists what there is), or \
         leave out --device to train on the CPU"
    )]
    Wgpu(#[from] WgpuInitError),
    /// The driver lists no GPU, or there is no driver.
    #[cfg(feature = "cuda")]
    #[error(
        "device cuda cannot be used: there is no NVIDIA GPU or no driver (`nvidia-smi` lists what there is); install \
         the driver, or leave out --device to train on the CPU"
    )]
    Cuda,
}

impl DeviceKind {
    /// Opens the device; never another one in its place.
    ///
    /// Open a GPU once in a process: burn refuses a second time.
    ///
    /// # Errors
    ///
    /// [`DeviceError`] if the program was built without it, or there is none.
    pub fn open(self) -> Result<Device, DeviceError> {
        match self {
            Self::Cpu => Ok(Device::flex()),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => Ok(Device::wgpu_options().init()?),
            #[cfg(feature = "cuda")]
            Self::Cuda => {
                Device::enumerate(DeviceType::Cuda).into_vec().into_iter().next().ok_or(DeviceError::Cuda)
            }
            #[cfg(not(all(feature = "wgpu", feature = "cuda")))]
            kind => Err(DeviceError::NotBuilt(kind)),
        }
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Wgpu => "wgpu",
            Self::Cuda => "cuda",
        })
    }
}

impl FromStr for DeviceKind {
    type Err = UnknownDevice;

    fn from_str(name: &str) -> Result<Self, UnknownDevice> {
        let known = [Self::Cpu, Self::Wgpu, Self::Cuda];
        known.into_iter().find(|kind| kind.to_string() == name).ok_or_else(|| UnknownDevice(name.to_owned()))
    }
}

/// The name that a GPU gives itself; the CPU gives none.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub fn name(device: &Device) -> Option<String> {
    device.identity().map(|identity| identity.name)
}

/// The name that a GPU gives itself: without a GPU's feature there is no GPU.
#[cfg(not(any(feature = "wgpu", feature = "cuda")))]
pub fn name(_device: &Device) -> Option<String> {
    None
}

/// Whether a device is the CPU, with gradients or without.
pub(crate) fn is_cpu(device: &Device) -> bool {
    *device == Device::flex()
}
