// Threads for Ceph's blocking calls.
//
// libuv's pool has four threads that fs, dns and crypto need too; a cluster that hangs would take them all.
// This one is ours: it grows to a bound as calls wait, and threads without work end after a while.
#pragma once
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

namespace cephkit {

class Job {
public:
    virtual ~Job() = default;
    // [worker] Must not touch JavaScript. The job may be gone when this returns.
    virtual void Run() = 0;
    // Instead of Run when the environment ends, on the JS thread.
    virtual void Cancel() = 0;
};

// The threads share ownership, so that one stuck in a call may outlive the environment it worked for.
class Workers : public std::enable_shared_from_this<Workers> {
public:
    explicit Workers(size_t max_threads) : max_threads_(max_threads) {}

    void Submit(Job* job);

    // Takes back what no thread has begun.
    std::deque<Job*> TakeQueued();

    struct Load {
        size_t threads;
        size_t busy;
        // Calls that no thread has begun.
        size_t queued;
    };
    Load load();

    // Ends idle threads, and busy ones after their job.
    void Stop();

private:
    // Where one thread waits for its next job. Shared, because it may leave before whoever calls it has done.
    struct Seat {
        std::condition_variable called;
        Job* job = nullptr;
    };

    void Work();

    const size_t max_threads_;
    std::mutex mutex_;
    std::deque<Job*> queue_;
    // The last to come is the first to get a job: its stack and its share of the heap are still in the cache.
    std::vector<std::shared_ptr<Seat>> idle_;
    size_t threads_ = 0;
    bool stopping_ = false;
};

}  // namespace cephkit
