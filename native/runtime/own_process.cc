#include "runtime/own_process.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <memory>

#include "runtime/failure.h"

namespace cephkit {
namespace {

constexpr size_t stack_size = 64 * 1024;

struct Task {
    void (*function)(void*);
    void* argument;
    bool done = false;
};

// The process has our signal handlers, which would do in it what they do for Node.js.
class SignalsBlocked {
public:
    SignalsBlocked() {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    SignalsBlocked(const SignalsBlocked&) = delete;
    ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

private:
    sigset_t before_;
};

// [own process] Those that the kernel lists. False where it does not.
bool CloseListed() {
    const int folder = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) return false;
    alignas(dirent64) char entries[4096];
    long size;
    while ((size = syscall(SYS_getdents64, folder, entries, sizeof(entries))) > 0) {
        for (long at = 0; at < size;) {
            const auto* entry = reinterpret_cast<const dirent64*>(entries + at);
            at += entry->d_reclen;
            if (entry->d_name[0] == '.') continue;
            int fd = 0;
            for (const char* digit = entry->d_name; *digit != '\0'; digit++)
                fd = fd * 10 + (*digit - '0');
            if (fd != folder) close(fd);
        }
    }
    close(folder);
    return size == 0;
}

// Where there is neither: few programs have more, and the limit may be a thousand million.
constexpr rlim_t most_files = 65536;

// [own process] Of its copy of our table: whoever waits for the end of one of our pipes or connections must
// not wait for what is left of a call.
void CloseFiles() {
    // Since Linux 5.9.
    if (syscall(SYS_close_range, 0, UINT_MAX, 0) == 0 || CloseListed()) return;
    struct rlimit limit;
    const rlim_t end =
        getrlimit(RLIMIT_NOFILE, &limit) == 0 ? std::min(limit.rlim_cur, most_files) : most_files;
    for (rlim_t fd = 0; fd < end; fd++)
        close(static_cast<int>(fd));
}

// [own process]
int Main(void* argument) {
    auto* task = static_cast<Task*>(argument);
    // Where it can be killed, it goes with the thread that waits for it.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    CloseFiles();
    task->function(task->argument);
    task->done = true;
    return 0;
}

}  // namespace

void RunInOwnProcess(void (*function)(void*), void* argument) {
    Task task{function, argument};
    const std::unique_ptr<char[]> stack(new char[stack_size]);
    const SignalsBlocked blocked;
    // Without a signal at its end, which is nobody else's business. This thread stands still until then, so
    // what belongs to the thread, such as errno, is the process's alone.
    const pid_t pid = clone(Main, stack.get() + stack_size, CLONE_VM | CLONE_VFORK, &task);
    if (pid < 0) throw Failure{"clone", errno, ""};
    waitpid(pid, nullptr, __WALL);
    if (!task.done) throw Failure{"clone", EINTR, "the process that makes the call was killed"};
}

}  // namespace cephkit
