#include "cephfs/library.h"

#include <dlfcn.h>

namespace cephkit {
namespace {

constexpr const char* library_name = "libcephfs.so.2";

// Never closed: it has threads, and what it leaves in thread-local storage.
void* Open() {
    void* library = dlopen(library_name, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (library == nullptr) throw Failure{"dlopen", ENOENT, dlerror()};
    return library;
}

}  // namespace

void* LibcephfsSymbol(const char* name) {
    // One that failed is tried again with the next call.
    static void* const library = Open();
    void* symbol = dlsym(library, name);
    if (symbol == nullptr) throw Failure{name, ENOSYS, std::string("not in this ") + library_name};
    return symbol;
}

}  // namespace cephkit
