// A GPU that computes nothing, for test_stand_in_gpu.py: CUDA's runtime and cuBLAS as torch calls them. Memory is the machine's,
// untouched until it is written; copies between host and device are made, kernels are not. What is not here does nothing, either.
#include <cuda_runtime_api.h>
#include <sys/mman.h>

#include <atomic>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#define IS(name, ...) extern "C" cudaError_t name(__VA_ARGS__)
#define GIVES(name, pointer, value, ...) extern "C" cudaError_t name(__VA_ARGS__) { *pointer = value; return cudaSuccess; }

static const size_t TOTAL = 80ull << 30;
static size_t taken;
static std::mutex guard;
static std::map<char*, std::pair<size_t, cudaMemoryType>> blocks;
static thread_local int current;
static thread_local cudaError_t last;

static void* handle() {
    static std::atomic<size_t> next{4096};
    return (void*)(next += 64);
}

static cudaError_t take(void** block, size_t bytes, cudaMemoryType type) {
    std::lock_guard<std::mutex> held(guard);
    if (type == cudaMemoryTypeDevice && taken + bytes > TOTAL) return last = cudaErrorMemoryAllocation;
    *block = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (*block == MAP_FAILED) return last = cudaErrorMemoryAllocation;
    blocks[(char*)*block] = {bytes, type};
    taken += type == cudaMemoryTypeDevice ? bytes : 0;
    return cudaSuccess;
}

static cudaError_t give_back(void* block) {
    std::lock_guard<std::mutex> held(guard);
    auto found = blocks.find((char*)block);
    if (found == blocks.end()) return cudaSuccess;
    taken -= found->second.second == cudaMemoryTypeDevice ? found->second.first : 0;
    munmap(block, found->second.first);
    blocks.erase(found);
    return cudaSuccess;
}

IS(cudaMalloc, void** block, size_t bytes) { return take(block, bytes, cudaMemoryTypeDevice); }
IS(cudaHostAlloc, void** block, size_t bytes, unsigned) { return take(block, bytes, cudaMemoryTypeHost); }
IS(cudaFree, void* block) { return give_back(block); }
IS(cudaFreeHost, void* block) { return give_back(block); }
IS(cudaMemGetInfo, size_t* free, size_t* total) { *total = TOTAL; *free = TOTAL - taken; return cudaSuccess; }
IS(cudaPointerGetAttributes, cudaPointerAttributes* found, const void* pointer) {
    std::lock_guard<std::mutex> held(guard);
    std::memset(found, 0, sizeof *found);
    auto after = blocks.upper_bound((char*)pointer);
    if (after == blocks.begin()) return cudaSuccess;
    auto block = std::prev(after);
    if ((char*)pointer < block->first + block->second.first) found->type = block->second.second;
    return cudaSuccess;
}
IS(cudaMemcpyAsync, void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t) {
    if (kind != cudaMemcpyDeviceToDevice) std::memmove(to, from, bytes);
    return cudaSuccess;
}

IS(cudaGetDeviceProperties, cudaDeviceProp* found, int) {
    std::memset(found, 0, sizeof *found);
    std::strcpy(found->name, "a stand-in");
    found->totalGlobalMem = TOTAL;
    found->major = 8;
    found->multiProcessorCount = 108;
    found->maxThreadsPerBlock = found->maxThreadsDim[0] = found->maxThreadsDim[1] = 1024;
    found->maxThreadsDim[2] = 64;
    found->maxGridSize[0] = 2147483647;
    found->maxGridSize[1] = found->maxGridSize[2] = 65535;
    found->warpSize = 32;
    found->sharedMemPerBlock = 49152;
    found->sharedMemPerBlockOptin = found->sharedMemPerMultiprocessor = 166912;
    found->regsPerBlock = found->regsPerMultiprocessor = 65536;
    found->maxThreadsPerMultiProcessor = 2048;
    return cudaSuccess;
}
IS(cudaDeviceGetAttribute, int* value, cudaDeviceAttr which, int) {
    static const std::map<int, int> known{
        {cudaDevAttrMultiProcessorCount, 108}, {cudaDevAttrComputeCapabilityMajor, 8},
        {cudaDevAttrMaxSharedMemoryPerBlock, 49152}, {cudaDevAttrMaxSharedMemoryPerBlockOptin, 166912},
        {cudaDevAttrMaxThreadsPerBlock, 1024}, {cudaDevAttrWarpSize, 32},
        {cudaDevAttrMaxGridDimX, 2147483647}, {cudaDevAttrMaxThreadsPerMultiProcessor, 2048}};
    auto found = known.find(which);
    *value = found == known.end() ? 0 : found->second;
    return cudaSuccess;
}
IS(cudaFuncGetAttributes, cudaFuncAttributes* found, const void*) {
    std::memset(found, 0, sizeof *found);
    found->ptxVersion = found->binaryVersion = 80;
    found->maxThreadsPerBlock = 1024;
    found->maxDynamicSharedSizeBytes = 166912;
    return cudaSuccess;
}
IS(cudaGetLastError) { auto error = last; last = cudaSuccess; return error; }
IS(cudaPeekAtLastError) { return last; }
IS(cudaSetDevice, int device) { current = device; return cudaSuccess; }
extern "C" const char* cudaGetErrorString(cudaError_t error) {
    return error == cudaErrorMemoryAllocation ? "out of memory" : "?";
}
GIVES(cudaGetDeviceCount, count, 1, int* count)
GIVES(cudaGetDevice, device, current, int* device)
GIVES(cudaDriverGetVersion, version, 13020, int* version)
GIVES(cudaRuntimeGetVersion, version, 13020, int* version)
GIVES(cudaOccupancyMaxActiveBlocksPerMultiprocessor, blocks, 2, int* blocks, const void*, int, size_t)
GIVES(cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags, blocks, 2, int* blocks, const void*, int, size_t, unsigned)
GIVES(cudaStreamCreateWithPriority, stream, (cudaStream_t)handle(), cudaStream_t* stream, unsigned, int)
GIVES(cudaEventCreateWithFlags, event, (cudaEvent_t)handle(), cudaEvent_t* event, unsigned)
GIVES(cudaStreamIsCapturing, status, cudaStreamCaptureStatusNone, cudaStream_t, cudaStreamCaptureStatus* status)
GIVES(cudaStreamGetCaptureInfo, status, cudaStreamCaptureStatusNone, cudaStream_t, cudaStreamCaptureStatus* status,
      unsigned long long*, cudaGraph_t*, const cudaGraphNode_t**, const cudaGraphEdgeData**, size_t*)
GIVES(__cudaGetKernel, kernel, (cudaKernel_t)function, cudaKernel_t* kernel, const void* function)
IS(cudaDeviceGetStreamPriorityRange, int* least, int* greatest) { *least = 0; *greatest = -5; return cudaSuccess; }

struct Launch { dim3 grid, block; size_t shared; void* stream; };
static thread_local std::vector<Launch> launches;
extern "C" unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, void* stream) {
    launches.push_back({grid, block, shared, stream});
    return 0;
}
IS(__cudaPopCallConfiguration, dim3* grid, dim3* block, size_t* shared, void** stream) {
    auto launch = launches.back();
    launches.pop_back();
    *grid = launch.grid, *block = launch.block, *shared = launch.shared, *stream = launch.stream;
    return cudaSuccess;
}
extern "C" void** __cudaRegisterFatBinary(void*) { static void* binary[4]; return binary; }
IS(cublasCreate_v2, void** made) { *made = handle(); return cudaSuccess; }
IS(cublasGetMathMode, void*, int* mode) { *mode = 0; return cudaSuccess; }
IS(cublasGetPointerMode_v2, void*, int* mode) { *mode = 0; return cudaSuccess; }
