// A system call that may never come back, made by a process that can be left behind.
//
// A thread that waits for FUSE, or for a file system on the network, cannot always be killed; nor can what
// closes the files there at the end of a process. Such a thread keeps its process from ending. So the call is
// made by a process of its own, as vfork(2) makes one: it has our memory, and none of our files. Our thread
// waits for it, and that wait ends with our process, whatever becomes of the other.
#pragma once
#include <type_traits>

namespace cephkit {

// [worker] The function may make system calls, and use memory that is there: killed while it allocates, it
// would leave a lock behind that our other threads wait for. It must not throw. What is left of it when our
// process ends goes on with the memory as it was.
//
// Throws Failure: there is no such process, or somebody has killed it.
void RunInOwnProcess(void (*function)(void*), void* argument);

template <typename Function>
void InOwnProcess(Function&& function) {
    using Plain = std::remove_reference_t<Function>;
    static_assert(std::is_nothrow_invocable_v<Plain&>, "nobody is there to catch it");
    RunInOwnProcess([](void* argument) { (*static_cast<Plain*>(argument))(); }, &function);
}

}  // namespace cephkit
