# make lessons | full | results | test | fast | bench | gallery | clean
# VENV=path chooses another environment

VENV ?= .venv
PYTHON ?= python3
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready-$(firstword $(shell cksum < requirements.txt))
LESSONS := $(sort $(wildcard [0-9][0-9]_*.py))
PARTS := $(shell grep -l '^\# %% \[markdown\]' evaluation/*.py advanced/*.py)

.PHONY: lessons full results test fast bench gallery clean

# Every lesson, and every part in its short form
lessons: $(READY)
	@$(call run_all,--quick)

# The study and the parts in full as well
full: $(READY)
	@$(call run_all,)

# The study on all three networks, as committed in data/results; a run that was stopped goes on
results: $(READY)
	for network in squeezenet1_1 efficientnet_lite0 resnet50; do \
		$(RUN) 08_comparative_analysis.py --model $$network --output-dir outputs/study/$$network || exit 1; \
	done
	$(RUN) -m evaluation.results outputs/study/*

# A process per core, each with one thread: many small networks gain nothing from a second one
test: $(READY)
	OMP_NUM_THREADS=1 $(RUN) -m pytest tests -n auto --dist worksteal

fast: $(READY)
	OMP_NUM_THREADS=1 $(RUN) -m pytest tests -n auto --dist worksteal -m "not slow"

# Seconds and memory beside other libraries', ten minutes; those of requirements-bench.txt if they are installed
bench: $(READY)
	$(RUN) tests/benchmark.py

# The README's pictures, from figures that `make full` wrote: lesson or part / figure
GALLERY := 01_vanilla_gradient_saliency/idea 01_vanilla_gradient_saliency/maps 02_gradient_input_saliency/idea \
	03_smoothgrad/idea 04_integrated_gradients/idea 04_integrated_gradients/path 05_gradcam/idea 05_gradcam/layers \
	06_guided_backpropagation/idea 06_guided_backpropagation/randomized 07_guided_gradcam/contrast \
	08_comparative_analysis/forest evaluation/deletion_insertion/idea evaluation/planted_scenes/idea \
	evaluation/sanity_checks/idea advanced/lrp/idea advanced/attention_rollout/rollout

gallery: $(READY)
	@mkdir -p outputs/gallery
	@for figure in $(GALLERY); do \
		$(RUN) -c "from PIL import Image; image = Image.open('outputs/$$figure.png').convert('RGB'); \
			image.thumbnail((1000, 1000)); name = '$$figure'.split('/'); \
			image.save(f'outputs/gallery/{name[-2]}_{name[-1]}.jpg', quality=85)" || exit 1; \
	done; ls -l outputs/gallery

clean:
	rm -rf $(filter-out outputs/gallery,$(wildcard outputs/*)) .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

$(READY): requirements.txt
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	@echo "installing requirements.txt into $(VENV): about 5.5 GB on Linux, a minute or more"
	$(RUN) -m pip install --quiet -r requirements.txt
	@touch $@

# Every lesson and part in order, lesson 08 and the parts with the options in $(1); a table at the end, status 1 if one failed.
define run_all
mkdir -p outputs; rows=outputs/.lessons; status=0; : > $$rows; \
for script in $(LESSONS) $(PARTS); do \
	name=$${script%.py}; options=; case $$name in 08_*|*/*) options="$(1)";; esac; \
	case $$name in */*) program="-m $$(echo $$name | tr / .)";; *) program=$$script;; esac; \
	echo; echo "== $$script $$options"; touch outputs/.started; begin=$$(date +%s); \
	if $(RUN) $$program $$options; then result=ok; else result=FAILED; status=1; fi; \
	figures=$$(find outputs/$$name -maxdepth 1 -name '*.png' -newer outputs/.started 2>/dev/null | wc -l); \
	printf '%-36s %-7s %8s %8s\n' $$name $$result $$(($$(date +%s) - begin)) $$figures >> $$rows; \
done; \
echo; printf '%-36s %-7s %8s %8s\n' lesson result seconds figures; cat $$rows; rm -f $$rows outputs/.started; exit $$status
endef

# BEGIN KEPT BACK
# What a student's copy does not have:
# make student | mutants | grading | extended | notebooks | book | explorer | explorer-brief | pages | serve | ray | cluster

.PHONY: student mutants grading extended notebooks book explorer explorer-brief pages book-pages serve ray cluster

BOOK_READY := $(VENV)/.ready-book-$(firstword $(shell cksum requirements-book.txt 2>/dev/null))
RAY_READY := $(VENV)/.ready-ray-$(firstword $(shell cksum requirements-ray.txt 2>/dev/null))

# What students get: the lessons with gaps
student: $(READY)
	$(RUN) exercises/make.py --to student --notebooks

# Wrong answers to every exercise, all of which the tests must notice
mutants: $(READY)
	$(RUN) tests/mutants/run.py

# Whole submissions with accidents or pasted answers; grading as Gradescope, nbgrader, a forge, a container do it
grading: $(READY)
	OMP_NUM_THREADS=1 $(RUN) -m pytest tests -n auto --dist worksteal -m grading

# Whole submissions of cheats, accidents and empty answers
extended: $(READY)
	OMP_NUM_THREADS=1 $(RUN) -m pytest tests -n auto --dist worksteal -m extended

# Executed, in outputs/notebooks/; one whose code has not changed is kept
notebooks: $(READY)
	$(RUN) book/notebooks.py

# outputs/book/index.html, from executed notebooks; needs npm once, for MathJax
book: $(BOOK_READY) $(if $(wildcard book/explorer/build.py),explorer)
	$(RUN) book/build.py

# A page that runs a network in the browser; needs npm, once
explorer: $(READY) $(BOOK_READY)
	$(RUN) -m book.explorer.build
	@echo "open outputs/book/explorer.html"

# Tests of both in a browser (Chromium); of the book as it was built, or without figures if it was not
pages: book-pages
	$(RUN) -m pytest tests/test_explorer.py -m pages

book-pages: $(READY) $(BOOK_READY)
	test -e outputs/book/index.html || $(RUN) book/build.py --no-run
	$(RUN) -m pytest tests/test_book.py -m pages

# Of the explorer's tests those that say most in a minute or two
explorer-brief: $(READY) $(BOOK_READY)
	$(RUN) -m pytest tests/test_explorer.py -m brief

# The pages over http, for a browser that forbids pages from disk what they need; nobody else on the network sees it
serve:
	@echo "http://127.0.0.1:8000/explorer.html (Ctrl-C ends it)"
	@$(PYTHON) -m http.server 8000 --bind 127.0.0.1 --directory outputs/book

# What a run with --ray needs, in the same environment
ray: $(RAY_READY)

# Its tests, on two nodes that are started here; alone, because nodes that start slowly are given up
cluster: $(RAY_READY)
	OMP_NUM_THREADS=1 $(RUN) -m pytest tests/test_scale.py -m cluster

$(BOOK_READY): requirements-book.txt $(READY)
	$(RUN) -m pip install --quiet -r requirements-book.txt
	@touch $@

$(RAY_READY): requirements-ray.txt $(READY)
	$(RUN) -m pip install --quiet -r requirements-ray.txt
	@touch $@
# END KEPT BACK
