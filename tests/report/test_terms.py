from confide.report.terms import COMPARISON, DASHBOARD, REPORT, TERMS, glossary


def test_every_page_asks_for_terms_that_there_are():
    for words in (REPORT, DASHBOARD, COMPARISON):
        assert set(words) <= set(TERMS)
        assert list(glossary(words)) == [term for term in TERMS if term in words]


def test_terms_are_sentences_in_alphabetical_order():
    assert list(TERMS) == sorted(TERMS, key=str.casefold)
    assert all(meaning[0].isupper() and meaning.endswith(".") for meaning in TERMS.values())
    assert set(TERMS) == {*REPORT, *DASHBOARD, *COMPARISON, "abstain"}
