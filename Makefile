# Two commands for a newcomer: make demo, make test. All work is in tools/.
.PHONY: help demo test test-integrations soak bench lint docs clean

help:
	@echo "make demo   set everything up and run the main job"
	@echo "make test   set everything up and pass the tests"
	@echo "make test-integrations   set up real pilots and batch systems and pass the tests inside them"
	@echo "make soak   run the long proofs that make test has in short"
	@echo "make bench  measure what the documentation says of speed"
	@echo "make lint   check style and types"
	@echo "make docs   build the documentation into docs/_build/html"
	@echo "make clean  remove what these made here (the cache stays: tools/get-apptainer --help)"

demo:
	@tools/demo

test: lint docs
	@tools/test

test-integrations:
	@tools/test-integrations

soak:
	@tools/test --soak

bench:
	@tools/bench

lint:
	@tools/lint

docs:
	@tools/docs

clean:
	rm -rf .venv docs/_build
