// A driver without a device, as libcuda.so.1: enough of it for cuDNN to compile kernels at run time
// and to take them for loaded. Nothing can be executed.
//
// Without cuda.h, so that what is only to be there needs no parameters.

// CUresult.
enum Result { kSuccess = 0, kNoDevice = 100, kNotSupported = 801 };

namespace {

Result Give(void** handle) {
  static char nothing;
  *handle = &nothing;
  return kSuccess;
}

}  // namespace

extern "C" {

Result cuInit() { return kNoDevice; }
Result cuDriverGetVersion(int* version) {
  *version = 13000;
  return kSuccess;
}
Result cuGetErrorString(Result, const char** text) {
  *text = "there is no device";
  return kSuccess;
}
Result cuDeviceGetCount(int* count) {
  *count = 0;
  return kSuccess;
}
Result cuLibraryLoadData(void** library) { return Give(library); }
Result cuLibraryUnload() { return kSuccess; }
Result cuLibraryGetKernel(void** kernel) { return Give(kernel); }
Result cuKernelGetFunction(void** function) { return Give(function); }
Result cuKernelSetAttribute() { return kSuccess; }

// cuDNN refuses a driver that has not all of these.
#define CONVOY_NOT_SUPPORTED(name) \
  Result name() { return kNotSupported; }

CONVOY_NOT_SUPPORTED(cuCtxGetCurrent)
CONVOY_NOT_SUPPORTED(cuCtxGetLimit)
CONVOY_NOT_SUPPORTED(cuCtxPopCurrent)
CONVOY_NOT_SUPPORTED(cuCtxPushCurrent)
CONVOY_NOT_SUPPORTED(cuDeviceGet)
CONVOY_NOT_SUPPORTED(cuGetErrorName)
CONVOY_NOT_SUPPORTED(cuKernelGetAttribute)
CONVOY_NOT_SUPPORTED(cuLaunchCooperativeKernel)
CONVOY_NOT_SUPPORTED(cuLaunchKernel)
CONVOY_NOT_SUPPORTED(cuLaunchKernelEx)
CONVOY_NOT_SUPPORTED(cuLibraryLoadFromFile)
CONVOY_NOT_SUPPORTED(cuLinkAddData)
CONVOY_NOT_SUPPORTED(cuLinkComplete)
CONVOY_NOT_SUPPORTED(cuLinkCreate)
CONVOY_NOT_SUPPORTED(cuLinkDestroy)
CONVOY_NOT_SUPPORTED(cuOccupancyMaxPotentialClusterSize)
CONVOY_NOT_SUPPORTED(cuStreamGetCtx)

}  // extern "C"
