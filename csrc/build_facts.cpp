// What this build of the operators is, as JSON: read by motionops/library.py through ctypes, for `python -m
// motionops.info` and bug reports. No Python is linked to, so that one library serves them all.
namespace {

constexpr const char* kFacts =
    "{"
#ifdef MOTIONOPS_WITH_CUDA
    "\"has_cuda\": true, "
#else
    "\"has_cuda\": false, "
#endif
    "\"torch\": \"" MOTIONOPS_TORCH_VERSION
    "\", "
    "\"compiler\": \"" MOTIONOPS_COMPILER
    "\", "
    "\"cuda_compiler\": \"" MOTIONOPS_CUDA_COMPILER
    "\", "
    "\"cuda_architectures\": \"" MOTIONOPS_CUDA_ARCHITECTURES
    "\", "
    "\"cuda_reason\": \"" MOTIONOPS_CUDA_REASON "\"}";

}  // namespace

extern "C" __attribute__((visibility("default"))) const char* motionops_build_facts() { return kFacts; }
