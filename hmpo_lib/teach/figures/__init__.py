"""What the notebooks show: each module computes, draws, captions and describes one picture or panel."""
